"""Response heads from a cluster: cleaned, framed anew, marked as content that must not run in a browser (E13).

Clusters are not trusted with the hub's origin: a cluster can neither set a cookie for it, nor send a client with its
bearer token to another cluster (a `Location` would be followed by kubectl), nor have its HTML run there, nor have an
answer kept for others by a cache in front.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from hub.edge.framing import Request
from hub.edge.response import status_line
from proto.headers import HOP_BY_HOP
from proto.messages import Headers, HttpHead

_DROPPED: Final = HOP_BY_HOP | {
    b"alt-svc",
    b"clear-site-data",
    b"content-security-policy",
    b"content-security-policy-report-only",
    b"expect-ct",
    b"location",
    b"nel",
    b"public-key-pins",
    b"refresh",
    b"report-to",
    b"reporting-endpoints",
    b"riata-request-id",
    b"riata-route",
    b"service-worker-allowed",
    b"set-cookie",
    b"set-cookie2",
    b"sourcemap",
    b"strict-transport-security",
    b"surrogate-control",
    b"www-authenticate",
    b"x-content-type-options",
    b"x-frame-options",
}
_DROPPED_PREFIXES: Final = (
    b"access-control-", b"impersonate-", b"x-remote-", b"proxy-", b"sec-",
    b"x-accel-", b"x-sendfile", b"x-lighttpd-send",  # orders to a reverse proxy in front of the hub
)  # fmt: skip
_DROPPED_SUFFIX: Final = b"-cache-control"
"""RFC 9213: what one kind of cache obeys instead of `Cache-Control`."""
_ON_UPGRADE: Final = frozenset({b"sec-websocket-accept", b"sec-websocket-protocol", b"x-stream-protocol-version"})
_USUAL: Final = frozenset(
    (
        b"audit-id cache-control content-encoding content-type date etag last-modified server vary warning"
        b" x-kubernetes-pf-flowschema-uid x-kubernetes-pf-prioritylevel-uid"
    ).split()
)
"""What most answers carry and may pass, so that nobody looks for reasons to drop it."""
_KUBES_OWN: Final = b"no-cache, private"
"""What kube-apiserver says of nearly everything."""
_ASKED: Final = re.compile(rb"/k8s/clusters/[a-z][a-z0-9-]{0,62}(/openapi/v3/[\w./-]+)\?hash=")
_DOCUMENT: Final = re.compile(rb"(/openapi/v3/[\w./-]+)\?(hash=[0-9A-Fa-f]{1,256})")
_LENGTH_DIGITS_MAX: Final = 18
_HARMLESS: Final = b"x-content-type-options: nosniff\r\ncontent-security-policy: sandbox\r\nriata-request-id: "

_NOT_IN_TRAILERS: Final = _DROPPED | {
    b"age", b"authorization", b"cache-control", b"content-encoding", b"content-length", b"content-range",
    b"content-type", b"date", b"expires", b"host", b"pragma", b"retry-after", b"vary", b"warning",
}  # fmt: skip
"""RFC 9110 §6.5.1: nothing that frames, routes, authenticates or tells how to treat the content may come behind it."""

REDIRECTS: Final = frozenset({300, 301, 302, 303, 305, 307, 308})


class Body(enum.Enum):
    """How the end of a response body is told to the client."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    """HTTP/1.0: only an abort tells a broken body from a whole one."""


class AnswerHead:
    """`length` is the exact number of body bytes when `body` is LENGTH."""

    __slots__ = ("body", "data", "length")

    def __init__(self, data: bytes, body: Body, length: int) -> None:
        self.data = data
        self.body = body
        self.length = length


class BadAnswer(Exception):
    """The head cannot be framed for a client: the agent's fault. The text is for our logs."""


class RedirectedUpgrade(BadAnswer):
    """A redirect instead of 101 (CVE-2020-8559): never followed, never passed on."""


def answer_head(
    message: HttpHead, request: Request, request_id: bytes, *, close: bool, route: bytes = b""
) -> AnswerHead:
    """The head for the client. `message` is validated (legal names and values, lower case). `route`: a whole field line
    for administrators. Raises BadAnswer."""
    status = message.status
    if status < 200:
        raise BadAnswer("an interim status as final answer")
    lines = [status_line(status)]
    length: bytes | None = None
    for name, value in message.headers:
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
                raise BadAnswer("malformed content-length")
            length = value
        elif name in _USUAL or _may_pass(name, _DROPPED):
            if name == b"cache-control" and value != _KUBES_OWN:
                value = _private(value)
            lines.extend((name, b": ", value, b"\r\n"))
        elif name == b"location" and status == 301:
            lines.append(_renamed(value, request))
    body = _body(status, request, length)
    if length is not None and (body is Body.LENGTH or request.method == b"HEAD" or status == 304):
        lines.extend((b"content-length: ", length, b"\r\n"))
    elif body is Body.CHUNKED:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.extend((_HARMLESS, request_id, b"\r\n", route, b"connection: close\r\n\r\n" if close else b"\r\n"))
    return AnswerHead(b"".join(lines), body, int(length) if body is Body.LENGTH and length else 0)


def _may_pass(name: bytes, dropped: frozenset[bytes]) -> bool:
    return not (name in dropped or name.startswith(_DROPPED_PREFIXES) or name.endswith(_DROPPED_SUFFIX))


def _private(value: bytes) -> bytes:
    """Without what would let a cache in front of the hub give one user's answer to another (RFC 9111 §3.5)."""
    wanted = [each.strip(b" \t") for each in value.split(b",")]
    if {b"private", b"no-store"} & {each.lower() for each in wanted}:
        return value
    kept = [each for each in wanted if each and each.lower().partition(b"=")[0] not in (b"public", b"s-maxage")]
    return b", ".join((b"private", *kept))


def _renamed(location: bytes, request: Request) -> bytes:
    """The one redirect that is passed on: kube-openapi's, to another version of the document that was asked for
    (k8s.io/kube-openapi, pkg/handler3/handler.go). Only its query: it stays at the path that was asked for, whatever
    prefix a front has for the hub."""
    match = _DOCUMENT.fullmatch(location)
    asked = _ASKED.match(request.target)
    if match is None or asked is None or asked[1] != match[1] or request.method not in (b"GET", b"HEAD"):
        return b""
    return b"location: ?%b\r\n" % match[2]


def _body(status: int, request: Request, length: bytes | None) -> Body:
    """RFC 9112 §6.3."""
    if request.method == b"HEAD" or status in (204, 304):
        return Body.NONE
    if length is not None:
        return Body.LENGTH
    return Body.CHUNKED if request.minor else Body.UNTIL_CLOSE


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body with the cluster's trailers, whose names and values are legal and in lower case."""
    fields = [b"%b: %b\r\n" % (name, value) for name, value in trailers if _may_pass(name, _NOT_IN_TRAILERS)]
    return b"".join((b"0\r\n", *fields, b"\r\n"))


def switching_head(
    message: HttpHead, request: Request, offered: tuple[bytes, ...], request_id: bytes, route: bytes = b""
) -> bytes:
    """The 101 for the client, which names the protocol that the client asked for. Raises BadAnswer."""
    lines = [status_line(101), b"connection: Upgrade\r\nupgrade: %b\r\n" % request.upgrade.encode("ascii")]
    for name, value in message.headers:
        if name not in _ON_UPGRADE:
            continue
        if name == b"sec-websocket-protocol" and value not in offered:
            raise BadAnswer("a sub-protocol that was not offered")
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"riata-request-id: %b\r\n%b\r\n" % (request_id, route))
    return b"".join(lines)
