"""Render the generated parts of docs/protocol.md from the code.

    python -m tests.docs.render_protocol          rewrite the page in place
    python -m tests.docs.render_protocol --check  exit 1 when it is stale

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import ast
import dataclasses
import inspect
import itertools
import pathlib
import re
import sys
import typing
from collections.abc import Callable, Iterable
from typing import Any, Final

from proto import commands, errors, frames, limits, messages, transitions, versions
from proto.frames import FrameType
from proto.limits import Limits
from proto.transitions import HalfInput, HalfState, SessionInput, SessionState
from tests.proto import recording

PAGE: Final = pathlib.Path(__file__).parents[2] / "docs" / "protocol.md"

CUT: Final = 240
"""Payload bytes of a frame that the example shows."""

LAYOUTS: Final[dict[FrameType, tuple[str, str]]] = {
    FrameType.HELLO: ("0", "map HubHello; hub to agent, handshake only"),
    FrameType.OPEN: ("new id", "u8 class, u8 kind, u32 credit for the acceptor's half, map by kind"),
    FrameType.ACCEPT: ("id", "u32 additional credit for the opener's half, map Accepted"),
    FrameType.DATA: ("id", "bytes, counted against stream and session credit"),
    FrameType.WINDOW: ("id or 0", "u32 increment, 1 to 2^31-1"),
    FrameType.RESET: ("id", "u16 code, at most 256 bytes of UTF-8 text"),
    FrameType.PING: ("0", "8 opaque bytes"),
    FrameType.GOAWAY: ("0", "u32 last id, u16 code, u32 drain milliseconds, map Goodbye"),
    FrameType.MSG: ("0", "u8 topic, at most 16 KiB of body"),
    FrameType.SYNC: ("0", "u32 epoch (0), then u32 ids of all streams that are open at the sender"),
    FrameType.TRAILERS: ("id", "map Trailers; ends the sender's half; kind http only"),
    FrameType.HEAD: ("id", "map HttpHead; kind http only"),
    FrameType.AUTH: ("0", "map AgentAuth; agent to hub, handshake only"),
    FrameType.WELCOME: ("0", "map Welcome; hub to agent, handshake only"),
    FrameType.REFUSED: ("0", "map Refused; hub to agent, handshake only"),
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = list(head)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def notes(cls: type) -> dict[str, str]:
    """Return the text under each assignment of a class body, in one line."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, after in itertools.pairwise([*body.body, ast.Pass()]):
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]  # type: ignore[assignment] # an enum member has one plain name
        if not isinstance(target, ast.Name):
            continue
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        found[target.id] = " ".join(str(after.value.value).split()) if is_text else ""  # type: ignore[attr-defined]
    return found


def frame_types() -> list[str]:
    rows = []
    for kind in sorted(FrameType):
        stream, payload = LAYOUTS[kind]
        flag = {FrameType.PING: "ACK", FrameType.MSG: "DROPPABLE"}.get(kind, "FIN")
        rows.append([f"`0x{kind:02X}`", kind.name, stream, payload, flag if frames.ALLOWED_FLAGS.get(kind) else "none"])
    rows.append([f"`0x{frames.EXTENSION_MIN:02X}`-`0xFF`", "extension", "any", "skipped when unknown", "any"])
    return table(["type", "name", "stream", "payload", "flags"], rows)


def flags() -> list[str]:
    found = notes(frames.Flag)
    return table(["bit", "name", "meaning"], ([f"`{int(frames.Flag[name])}`", name, found[name]] for name in found))


def codes() -> list[str]:
    found = notes(errors.Code)
    return table(["number", "name", "meaning"], ([str(int(code)), code.name, found[code.name]] for code in errors.Code))


def states(enum_class: type[SessionState | HalfState]) -> list[str]:
    found = notes(enum_class)
    return table(["state", "meaning"], ([state.name, found[state.name]] for state in enum_class))


def inputs(enum_class: type[SessionInput | HalfInput]) -> list[str]:
    found = notes(enum_class)
    return [f"- `{each.name}`: {found[each.name] or 'the frame of that name'}" for each in enum_class]


def grid(rows: Any, columns: Any, steps: dict[Any, Any]) -> list[str]:
    body = (
        [state.name] + [steps[state, each].name if (state, each) in steps else "-" for each in columns]
        for state in rows
    )
    return table(["state", *(each.name for each in columns)], body)


def session_table() -> list[str]:
    return [
        *states(SessionState),
        "",
        *inputs(SessionInput),
        "",
        *grid(SessionState, SessionInput, transitions.SESSION),
    ]


def stream_table() -> list[str]:
    return [*states(HalfState), "", *inputs(HalfInput), "", *grid(HalfState, HalfInput, transitions.STREAM)]


def shape(kind: Any) -> str:
    """Return a field's type in the words of the page."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return shape(parts[0]) + bounds(parts[1:])
    if kind == messages.Headers:
        return "array of [bytes name, bytes value]"
    if kind == messages.Ext:
        return "map, see below"
    if origin is tuple:
        return f"array of {shape(parts[0])}" if parts[-1] is Ellipsis else f"[{', '.join(map(shape, parts))}]"
    if isinstance(kind, type) and issubclass(kind, messages.Wire):
        return f"map {kind.__name__}"
    return {str: "text", bytes: "bytes", int: "integer", bool: "boolean"}[kind]


def bounds(metas: Iterable[Any]) -> str:
    said = []
    for meta in metas:
        low = meta.ge if meta.ge is not None else meta.min_length
        high = meta.le if meta.le is not None else meta.max_length
        if meta.lt is not None:
            high = meta.lt - 1
        if meta.pattern is not None:
            said.append(f"`{meta.pattern}`".replace("|", "\\|"))
        elif low == high:
            said.append(f"exactly {low}")
        else:
            said.append(f"{low or 0} to {high}" if high is not None else f"from {low}")
    return f" ({', '.join(said)})" if said else ""


def message_fields() -> list[str]:
    lines: list[str] = []
    for kind in sorted(every_message(), key=lambda each: each.__name__):
        hints, found = typing.get_type_hints(kind, include_extras=True), notes(kind)
        required = set(kind.__struct_fields__[: len(kind.__struct_fields__) - len(kind.__struct_defaults__)])
        required |= {
            name
            for name, default in zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False)
            if repr(default) == "NODEFAULT"
        }
        rows = [
            [f"`{name}`", shape(hints[name]), "yes" if name in required else "", found[name]]
            for name in kind.__struct_fields__
        ]
        lines += [f"**{kind.__name__}**: {(inspect.getdoc(kind) or '').splitlines()[0]}", ""]
        lines += [*table(["field", "type", "required", "meaning"], rows), ""]
    return lines[:-1]


def every_message() -> list[type[messages.Wire]]:
    return [
        each
        for each in vars(messages).values()
        if isinstance(each, type) and issubclass(each, messages.Wire) and each is not messages.Wire
    ]


def limit_fields() -> list[str]:
    found = notes(Limits)
    rows = [[f"`{each.name}`", format_number(each.default), found[each.name]] for each in dataclasses.fields(Limits)]
    return table(["name", "default", "meaning"], rows)


def fixed_limits() -> list[str]:
    source = ast.parse(inspect.getsource(limits))
    rows = []
    for statement, after in itertools.pairwise(source.body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(statement.target, ast.Name)
        ):
            name = statement.target.id
            assert isinstance(after.value, ast.Constant)
            rows.append([f"`{name}`", format_number(getattr(limits, name)), " ".join(str(after.value.value).split())])
    return table(["name", "value", "meaning"], rows)


def format_number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}".rstrip("0").rstrip(".")


def kinds() -> list[str]:
    rows = [[str(int(kind)), kind.name.lower(), each.__name__] for kind, each in messages.OPENING_OF_KIND.items()]
    rows.sort()
    classes = [[str(int(each)), each.name.lower()] for each in messages.StreamClass]
    return [*table(["kind", "name", "message of OPEN"], rows), "", *table(["class", "name"], classes)]


def verbs() -> list[str]:
    rows = [
        [f"`{verb.name}`", verb.by, verb.text, verb.args.__name__, verb.result.__name__]
        for verb in commands.VERBS.values()
    ]
    lines = table(["verb", "said by", "what", "arguments", "result"], rows)
    shapes = {shape.__name__: shape for verb in commands.VERBS.values() for shape in (verb.args, verb.result)}
    for name in sorted(set(shapes) - {"Nothing"}):
        hints, found = typing.get_type_hints(shapes[name], include_extras=True), notes(shapes[name])
        fields = [[f"`{field}`", shape(hints[field]), found[field]] for field in shapes[name].__struct_fields__]
        lines += ["", f"**{name}**", "", *table(["field", "type", "meaning"], fields)]
    return lines


def wire_versions() -> list[str]:
    return [
        f"This build speaks wire versions {versions.WIRE_MIN} to {versions.WIRE_VERSION}.",
        f"The WebSocket subprotocol is `{versions.SUBPROTOCOL}`.",
    ]


def example() -> list[str]:
    steps = recording.parse((recording.DIRECTORY / "v1.hex").read_text())
    lines = ["```"]
    for name in ("handshake", "first pings", "get", "get answered", "opaque bytes", "cancelled", "drain", "goodbye"):
        lines.append(f"# {name}")
        for speaker, message in steps[name]:
            lines.append(f"{speaker}: one message of {len(message)} bytes")
            for kind, bits, stream, payload in frames.split(message):
                lines.append(f"  {frames.describe(kind, bits, stream, len(payload))}")
                digits = (frames.HEADER.pack(kind, bits, len(payload), stream) + payload[:CUT]).hex()
                lines += [f"    {digits[at : at + 96]}" for at in range(0, len(digits), 96)]
                lines += ["    (cut)"] if len(payload) > CUT else []
    return [*lines, "```"]


PARTS: Final[dict[str, Callable[[], list[str]]]] = {
    "versions": wire_versions,
    "verbs": verbs,
    "frame types": frame_types,
    "flags": flags,
    "kinds": kinds,
    "messages": message_fields,
    "session table": session_table,
    "stream table": stream_table,
    "codes": codes,
    "fixed limits": fixed_limits,
    "limits": limit_fields,
    "example": example,
}


def render(page: str) -> str:
    """Return the page with every part rendered anew; raise KeyError for a part that nothing renders."""

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        return "\n".join([f"<!-- begin {name} -->", "", *PARTS[name](), "", f"<!-- end {name} -->"])

    return re.sub(r"<!-- begin (?P<name>[a-z ]+) -->.*?<!-- end (?P=name) -->", part, page, flags=re.DOTALL)


def main() -> int:
    page = PAGE.read_text()
    fresh = render(page)
    if "--check" in sys.argv[1:]:
        return int(page != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
