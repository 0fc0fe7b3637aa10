"""What the head says about the message: length, persistence, expectation, upgrade. Ambiguity is refused."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final, NamedTuple

from hub import errors
from hub.edge.head import Fields, Head, parse_first_line
from hub.edge.limits import REMEMBERED_BYTES_MAX

CHUNKED: Final = -1
"""Value of `Request.length` for a chunked body."""

LENGTH_MAX: Final = 1 << 62

_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_UPGRADES: Final = {b"websocket": "websocket", b"spdy/3.1": "SPDY/3.1"}
_BODILESS: Final = frozenset({b"GET", b"HEAD"})
PROBES: Final = frozenset({b"/livez", b"/readyz"})
"""What kubelets and load balancers ask by the address of a pod or a machine; in HTTP/1.0, as HAProxy does, by none."""
_RELEVANT: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"})


@dataclasses.dataclass(slots=True, init=False)
class Request:
    """A request whose framing is certain. `received_at` is on time.monotonic; `length` may be CHUNKED."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    host: bytes
    length: int
    is_keep_alive: bool
    expects_continue: bool
    upgrade: str
    """'', 'websocket' or 'SPDY/3.1': only set when `Connection` asks for it too."""
    connection_tokens: tuple[bytes, ...]
    """Lower-case names that the client listed in `Connection`."""
    received_at: float
    peer: str
    memo: dict[str, Any]
    """What was derived from the fields alone; shared by requests of one connection with the very same fields."""

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        fields: Fields,
        host: bytes,
        length: int,
        is_keep_alive: bool,
        expects_continue: bool,
        upgrade: str,
        connection_tokens: tuple[bytes, ...],
        received_at: float,
        peer: str,
        memo: dict[str, Any] | None = None,
    ) -> None:
        """By hand, because what `dataclasses` makes is interpreted, also where this is compiled."""
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.host = host
        self.length = length
        self.is_keep_alive = is_keep_alive
        self.expects_continue = expects_continue
        self.upgrade = upgrade
        self.connection_tokens = connection_tokens
        self.received_at = received_at
        self.peer = peer
        self.memo = {} if memo is None else memo


def read_request(head: Head, received_at: float, peer: str, hosts: frozenset[bytes] | None = None) -> Request:
    """Decide the framing. `hosts`: the `host_name`s that `Host` may carry, None for any; PROBES may carry any, and
    HTTP/1.0 need not have one there."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in head.fields:
        if name in _RELEVANT:
            found.setdefault(name, []).append(value)
    host = _host(head, found.get(b"host"), hosts)
    tokens = _tokens(found[b"connection"]) if b"connection" in found else ()
    length = _length(head, found)
    is_keep_alive = head.minor == 1 and b"close" not in tokens
    expects = _expects_continue(found[b"expect"], head.minor, length) if b"expect" in found else False
    upgrade = ""
    if b"upgrade" in found and b"upgrade" in tokens:
        upgrade = _upgrade(head, found[b"upgrade"], length)
    if length and head.method in _BODILESS:
        raise errors.BadRequest("GET and HEAD take no body here")
    return Request(
        head.method, head.target, head.minor, head.fields, host, length,
        is_keep_alive, expects, upgrade, tokens, received_at, peer,
    )  # fmt: skip


class Known(NamedTuple):
    """The header fields of a connection's last request as bytes, and what came of them."""

    block: bytes
    request: Request


def remember(raw: bytes, request: Request) -> Known | None:
    """Keep what a head said, if the next one may be read by it: no body, no upgrade, no expectation, and no probe, for
    its host was not looked at; and if it is short."""
    if len(raw) > REMEMBERED_BYTES_MAX:
        return None
    if request.length or request.upgrade or request.expects_continue or request.target in PROBES:
        return None
    return Known(raw[raw.index(b"\n") + 1 :], request)


def read_again(raw: bytes, known: Known, received_at: float) -> Request | None:
    """The request of a head whose fields are byte for byte those of the last one, None if they are not.

    Keep-alive clients send the same fields again and again; equal bytes have equal meaning, so only the first line is
    read. The memory of a credential ends with its connection.
    """
    end = len(raw) - len(known.block)
    if end <= 0 or raw[end - 1] != 10 or not raw.endswith(known.block):
        return None
    line, last = parse_first_line(raw[:end]), known.request
    if line is None or line[2] != last.minor:
        return None
    return Request(
        line[0], line[1], last.minor, last.fields, last.host, 0, last.is_keep_alive, False, "",
        last.connection_tokens, received_at, last.peer, last.memo,
    )  # fmt: skip


def _host(head: Head, values: list[bytes] | None, hosts: frozenset[bytes] | None) -> bytes:
    is_probe = head.target in PROBES
    if values is None and is_probe and head.minor == 0:
        return b""
    if values is None or len(values) != 1:
        raise errors.BadRequest("exactly one Host header is required")
    match = _HOST.fullmatch(values[0])
    if match is None or (match[1] is not None and not 0 < int(match[1]) < 65536):
        raise errors.BadRequest("the Host header is malformed")
    if hosts is not None and not is_probe and host_name(_without_port(values[0], match)) not in hosts:
        raise errors.BadRequest("the Host header names somebody else")
    return values[0]


def _without_port(value: bytes, match: re.Match[bytes]) -> bytes:
    return value if match[1] is None else value[: match.start(1) - 1]


def host_name(value: bytes) -> bytes:
    """A name or an address, without port, as it is compared: `Hub.example.` is `hub.example`, `[::1]` is `::1`."""
    return value.lower().removesuffix(b".").strip(b"[]")


def _tokens(values: list[bytes]) -> tuple[bytes, ...]:
    return tuple(token.strip(b" \t").lower() for value in values for token in value.split(b",") if token.strip(b" \t"))


def _length(head: Head, found: dict[bytes, list[bytes]]) -> int:
    """RFC 9112 §6.3 without its repairs: one Content-Length or one `chunked`, never both, never a list."""
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise errors.BadRequest("Content-Length and Transfer-Encoding exclude each other")
        if head.minor == 0:
            raise errors.BadRequest("HTTP/1.0 knows no Transfer-Encoding")
        if len(codings) != 1:
            raise errors.BadRequest("more than one Transfer-Encoding header")
        if codings[0].lower() != b"chunked":
            raise errors.NotImplementedHere
        return CHUNKED
    if lengths is None:
        return 0
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None or int(lengths[0]) > LENGTH_MAX:
        raise errors.BadRequest("the Content-Length is malformed")
    return int(lengths[0])


def _expects_continue(values: list[bytes], minor: int, length: int) -> bool:
    if len(values) != 1 or values[0].lower() != b"100-continue":
        raise errors.UnknownExpectation
    return minor == 1 and length != 0


def _upgrade(head: Head, values: list[bytes], length: int) -> str:
    """D4 and B13: one known protocol, exact; no body that could be read as the first bytes of the other protocol."""
    protocol = _UPGRADES.get(values[0].lower()) if len(values) == 1 else None
    if protocol is None:
        raise errors.BadRequest("only an upgrade to websocket or SPDY/3.1 is understood")
    if head.minor == 0:
        raise errors.BadRequest("an upgrade needs HTTP/1.1")
    if length:
        raise errors.BadRequest("an upgrade takes no body")
    return protocol
