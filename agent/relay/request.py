"""The bytes of a request to the kube-apiserver. Pure; the policy has checked everything that goes in."""

from typing import Final

from agent.relay.endpoint import Endpoint
from proto.messages import Headers, HttpRequest

LAST_CHUNK: Final = b"0\r\n\r\n"
_BODY_METHODS: Final = frozenset(("POST", "PUT", "PATCH"))
_END: Final = b"\r\n"
_EMPTY_BODY: Final = (b"content-length", b"0")


def head_bytes(
    request: HttpRequest,
    passed: Headers,
    endpoint: Endpoint,
    *,
    authorization: bytes,
    is_chunked: bool,
    has_length: bool,
) -> bytes:
    """Request line and headers. `authorization` may be empty; a body method without a body says length 0."""
    fields = list(passed)
    if is_chunked:
        fields.append((b"transfer-encoding", b"chunked"))
    elif not has_length and request.method in _BODY_METHODS and not request.upgrade:
        fields.append(_EMPTY_BODY)
    if request.upgrade:
        fields.append((b"connection", b"Upgrade"))
        fields.append((b"upgrade", request.upgrade.encode()))
    if authorization:
        fields.append((b"authorization", authorization))
    method = request.method.encode()
    parts = [method, b" ", endpoint.base_path, request.path, b" HTTP/1.1\r\nhost: ", endpoint.authority, _END]
    for name, value in fields:
        parts.extend((name, b": ", value, _END))
    parts.append(_END)
    return b"".join(parts)


def chunk(piece: bytes) -> bytes:
    """One chunk (RFC 9112 §7.1). `piece` is never empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def content_length(passed: Headers) -> int | None:
    """The announced length, already known to be well-formed and single."""
    for name, value in passed:
        if name == b"content-length":
            return int(value)
    return None
