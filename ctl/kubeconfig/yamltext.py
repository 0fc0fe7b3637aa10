"""Edits of YAML (or JSON) text that leave every other byte as it was.

PyYAML cannot write back comments, order or style, and a kubeconfig is its owner's file. So the text is parsed only to
learn *where* things stand, and the edits are splices. Whoever calls this must parse the result and compare: the few
forms that the marks mislead about (aliases, a kept block scalar at the end of a list) then become a refusal.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./:@+=-]+")
_QUOTED = re.compile(r""" (?:'(?!<)[^']{2,}'|"[^"]{2,}")""")
"""In what PyYAML says is wrong: a piece of the text, and no token's name."""
_MARKED = re.compile("[\r\n\x85\u2028\u2029]---(?=[ \t\r\n\x85\u2028\u2029]|$)")
"""Where a further document may begin: PyYAML's line ends, of which `^` knows one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """Replace text[start:end] by `text`; offsets in characters."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Sequence[Edit]) -> str:
    """`text` with all `edits`, which may not overlap; those at one place keep their order."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.start < at:
            raise ValueError("edits overlap")
        parts += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*parts, text[at:]])


def _invalid(exc: Exception, first_line: int = 0) -> ValueError:
    """Where it is not valid, and why: of what stands there nothing longer than a character, it may be a secret."""
    if not isinstance(exc, yaml.MarkedYAMLError) or exc.problem_mark is None:
        return ValueError("it is not valid YAML")
    mark = exc.problem_mark
    line = f"line {first_line + mark.line + 1}"
    if mark.buffer and mark.buffer[mark.pointer] == "\t":
        return ValueError(f"{line} has a tab where riata's YAML reader takes none, though kubectl's may")
    return ValueError(f"it is not valid YAML: {line}, {_QUOTED.sub('', exc.problem or '')}")


def split(text: str) -> tuple[str, str]:
    """The document that `text` holds, and what follows it: empty ones (`---` at the end), which kubectl passes over.
    ValueError when more follows. What is plainly one document is not parsed for that: a big one takes seconds."""
    if not _MARKED.search(text):
        return text, ""
    end, line = len(text), 0
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        marks = [event.start_mark for event in events if isinstance(event, yaml.DocumentStartEvent)]
        if len(marks) > 1 and marks[1] is not None:
            end, line = marks[1].index, marks[1].line
        others = list(yaml.compose_all(text[end:], Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as exc:
        raise _invalid(exc, line) from exc
    if not all(map(_is_null, others)):
        raise ValueError("it is not one document, but several")
    return text[:end], text[end:]


@functools.lru_cache(4)
def compose(text: str) -> yaml.MappingNode | None:
    """The one mapping that `text` holds, None when it holds nothing. ValueError for everything else. As of
    `load`, the same for the same text, which nobody may change: thousands of clusters take seconds to read."""
    try:
        root = yaml.compose(split(text)[0], Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as exc:
        raise _invalid(exc) from exc
    if root is None or _is_null(root):
        return None
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("it is not a mapping")
    return root


@functools.lru_cache(4)
def load(text: str) -> Any:
    """`text` as mappings, lists, strings and None: no scalar is interpreted, nothing is equal by accident."""
    try:
        return yaml.load(split(text)[0], Loader=_Strings)  # noqa: S506 (a SafeLoader with fewer types)
    except (yaml.YAMLError, RecursionError, TypeError) as exc:
        raise _invalid(exc) from exc


class _Strings(yaml.SafeLoader):
    """Reads every scalar but null as a string, as it is spelt."""


def _spelt(loader: _Strings, node: yaml.ScalarNode) -> str:
    return str(node.value)


for _tag in ("bool", "int", "float", "timestamp", "binary"):
    _Strings.add_constructor(f"tag:yaml.org,2002:{_tag}", _spelt)


def value(root: yaml.MappingNode, key: str) -> yaml.Node | None:
    """The value of `key`. ValueError when the key stands there twice."""
    found = [v for k, v in root.value if isinstance(k, yaml.ScalarNode) and k.value == key]
    if len(found) > 1:
        raise ValueError(f"it has {key!r} twice")
    return found[0] if found else None


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def is_empty(node: yaml.Node) -> bool:
    """Null, or a list without elements."""
    return _is_null(node) or (isinstance(node, yaml.SequenceNode) and not node.value)


class Editor:
    """Collects edits of one text. Positions come from `root`, so it is used once: edit, then `result()`."""

    def __init__(self, text: str, root: yaml.MappingNode) -> None:
        self._text = text
        self._root = root
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[Edit] = []
        self._added: dict[str, Any] = {}

    def result(self) -> str:
        added = [self._addition()] if self._added else []  # last: edits at one place keep their order
        return apply(self._text, self._edits + added)

    def set_scalar(self, node: yaml.ScalarNode, new: str) -> None:
        """Replace the scalar `node`, quoted as its surroundings need."""
        if node.value == new and not _is_null(node):
            return
        text = json.dumps(new) if self._root.flow_style or not _PLAIN.fullmatch(new) else new
        space = " " if node.start_mark.index == node.end_mark.index else ""
        self._edits.append(Edit(node.start_mark.index, self._end(node), space + text))

    def replace(self, node: yaml.MappingNode, new: dict[str, Any]) -> None:
        """Replace the list element `node` whole; comments within it go."""
        text = json.dumps(new) if node.flow_style else self._block(new, node.start_mark.column)
        self._edits.append(Edit(node.start_mark.index, self._end(node), text))

    def append(self, key: str, node: yaml.Node | None, elements: Sequence[dict[str, Any]]) -> None:
        """Add `elements` to the list at `key`; `node` is the list, a null in its place, or None when there is none."""
        if node is None:
            self.add_key(key, list(elements))
        elif is_empty(node) and self._root.flow_style:
            self._edits.append(Edit(node.start_mark.index, self._end(node), json.dumps(list(elements))))
        elif is_empty(node):
            text = "".join(self._newline + self._dashed(e, 0) for e in elements)
            start = len(self._text[: node.start_mark.index].rstrip(" "))
            self._edits.append(Edit(start, self._end(node), text))
        elif isinstance(node, yaml.SequenceNode):
            self._extend(node, elements)
        else:
            raise ValueError(f"its {key!r} is not a list")

    def _extend(self, node: yaml.SequenceNode, elements: Sequence[dict[str, Any]]) -> None:
        if node.flow_style:
            at = self._end(node.value[-1])
            text = "".join(f", {json.dumps(e)}" for e in elements)
        else:
            at = self._line_end(self._end(node))
            text = "".join(self._newline + self._dashed(e, node.start_mark.column) for e in elements)
        self._edits.append(Edit(at, at, text))

    def add_key(self, key: str, new: Any) -> None:
        """Add a top-level key that is not there yet; several keep their order."""
        self._added[key] = new

    def _addition(self) -> Edit:
        """All new top-level keys, behind the old ones."""
        if self._root.flow_style:
            at = self._end(self._root.value[-1][1]) if self._root.value else self._root.start_mark.index + 1
            comma = ", " if self._root.value else ""
            return Edit(at, at, comma + json.dumps(self._added)[1:-1])
        at = self._root.end_mark.index  # the end of the text, or the `...` that ends the document
        head = "" if at == 0 or self._text[at - 1] == "\n" else self._newline
        return Edit(at, at, head + block(self._added, self._newline))

    def _dashed(self, element: dict[str, Any], column: int) -> str:
        return " " * column + "- " + self._block(element, column + 2)

    def _block(self, element: dict[str, Any], column: int) -> str:
        """`element` in block style without the indent of its first line and without a newline at its end."""
        return block(element, "\n").rstrip("\n").replace("\n", self._newline + " " * column)

    def _line_end(self, at: int) -> int:
        """Where the line of `at` ends, behind a comment that may stand there."""
        found = self._text.find("\n", at)
        if found < 0:
            return len(self._text)
        return found - 1 if self._text[found - 1] == "\r" and found > at else found

    def _end(self, node: yaml.Node) -> int:
        """Where `node` really ends: PyYAML ends block collections at the next token, behind the comments between."""
        if isinstance(node, yaml.ScalarNode):
            end = node.end_mark.index
            return len(self._text[:end].rstrip()) if node.style in {"|", ">"} else end
        if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
            return node.end_mark.index
        last = node.value[-1]
        return self._end(last[1] if isinstance(node, yaml.MappingNode) else last)


def block(new: Any, newline: str) -> str:
    """`new` in block style, as kubectl writes it."""
    text: str = yaml.dump(new, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text.replace("\n", newline)


class Dumper(yaml.SafeDumper):
    """Quotes every string that some YAML reader may take for something else: kubectl's 1.1 is not PyYAML's (`1e3`)."""


def _text(dumper: yaml.SafeDumper, new: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", new, style=None if _PLAIN.fullmatch(new) else '"')


Dumper.add_representer(str, _text)
