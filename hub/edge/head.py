"""Request heads: one grammar, stricter than RFC 9112 wherever leniency has ever split two parsers.

The head is taken as a whole (everything up to the first CRLF CRLF) and must match one expression; nothing is repaired.
Whatever does not match is refused with the reason that a second, slower look finds.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from hub import errors
from hub.edge.limits import FIELD_BYTES_MAX, FIELDS_MAX

Fields = list[tuple[bytes, bytes]]
"""Header fields in their order, names in lower case, values without surrounding blanks."""

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""What the Kubernetes API knows. CONNECT and TRACE have no business here (B10)."""

# Token of RFC 9110 §5.6.2 without `_`: some servers fold it into `-`: a second spelling of every name (A3).
_NAME: Final = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]++"
# field-content of RFC 9110 §5.5: visible, blank, tab, obs-text; no other control character, so neither CR, LF nor NUL.
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*+"

_REQUEST_LINE: Final = rb"([!-~]+) ([!-~]+) HTTP/(\d)\.(\d)\r\n"
_HEAD: Final = re.compile(_REQUEST_LINE + rb"((?:" + _NAME + rb":" + _VALUE + rb"\r\n)*+)\r\n")
_FIELD: Final = re.compile(rb"([^:]+):[ \t]*([^\r]*)\r\n")
_FIRST_LINE: Final = re.compile(_REQUEST_LINE)
_OLD_LINE: Final = re.compile(rb"[!-~]+ [!-~]+\r\n")
_SHORT: Final = 512
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


class Head(NamedTuple):
    """A request head that obeys the grammar; framing is judged separately."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields


def parse_head(raw: bytes) -> Head:
    """Parse a head that includes its empty line. Raises a HubError (400, 405, 431 or 505)."""
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise _explain(raw)
    method, target, major, minor, block = match.groups()
    if major != b"1" or minor > b"1":
        raise errors.VersionNotSupported
    if method not in METHODS:
        raise errors.MethodNotAllowed
    if not target.startswith(b"/"):
        raise errors.BadRequest("the request target is not a path")
    pairs = _FIELD.findall(block)
    if len(pairs) > FIELDS_MAX:
        raise errors.HeadTooLarge(f"more than {FIELDS_MAX} header fields")
    if len(block) > FIELD_BYTES_MAX and any(len(name) + len(value) > FIELD_BYTES_MAX for name, value in pairs):
        raise errors.HeadTooLarge(f"a header field is larger than {FIELD_BYTES_MAX} bytes")
    return Head(method, target, minor[0] - 48, [(name.lower(), value.rstrip(b" \t")) for name, value in pairs])


def parse_first_line(line: bytes) -> tuple[bytes, bytes, int] | None:
    """Method, target and minor version of a request line with its end, None for anything that is not plainly good:
    `parse_head` then says what is wrong. Remembered for short lines, since clients ask for the same again; not with a
    query, which may hold a secret and is seldom the same."""
    return _remembered(line) if len(line) <= _SHORT and line.find(b"?") < 0 else _first_line(line)


def _first_line(line: bytes) -> tuple[bytes, bytes, int] | None:
    match = _FIRST_LINE.fullmatch(line)
    if match is None:
        return None
    method, target, major, minor = match.groups()
    if major != b"1" or minor > b"1" or method not in METHODS or not target.startswith(b"/"):
        return None
    return method, target, minor[0] - 48


_remembered = functools.lru_cache(maxsize=4096)(_first_line)


def check_partial(raw: bytes, scanned: int) -> None:
    """Refuse what can no longer become a head: a wrong first line or a bare LF at or behind `scanned`.

    Without this `GET /` of HTTP/0.9 and heads that end in LF LF would wait for the deadline.
    """
    bare = _BARE_LF.search(raw, max(scanned - 1, 0))
    if bare is not None and bare.start() >= scanned:
        raise _explain(raw)
    if raw.find(b"\n", scanned) >= 0 and _FIRST_LINE.match(raw) is None:
        raise _explain(raw)
    if raw[:1] == b"\x16":
        raise errors.BadRequest("this is a TLS handshake on a plain-text port")


def _explain(raw: bytes) -> errors.HubError:
    """Why a head does not match; the texts are fixed so that no byte of the request gets into an answer or a log."""
    line = raw[: raw.find(b"\n") + 1]
    if _OLD_LINE.fullmatch(line):
        return errors.VersionNotSupported("HTTP/0.9 is not spoken here")
    if _FIRST_LINE.fullmatch(line) is None:
        return errors.BadRequest("the request line is malformed")
    return errors.BadRequest("a header field is malformed")
