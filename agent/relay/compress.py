"""Which answers are compressed on the tunnel (docs/protocol.md §5.3)."""

import re
from typing import Final

from proto import compression
from proto.messages import Headers, HttpRequest

LEAST_BYTES: Final = 4096
"""An answer whose announced length is below goes as it is: it fits into a packet or three, and costs nothing so."""
_WATCH: Final = re.compile(rb"[?&]watch=(?:1|t|true)(?:&|$)", re.IGNORECASE)
_WITH_LIST: Final = b"sendInitialEvents="
"""A watch that begins with a list (KEP-3157)."""
_TYPES: Final = frozenset(
    {
        b"application/cbor",
        b"application/cbor-seq",
        b"application/json",
        b"application/vnd.kubernetes.protobuf",
        b"application/yaml",
    }
)
"""What API servers speak of their objects in, lists and watches alike. Logs are text/plain: they belong to programs."""
_SUFFIXES: Final = (b"+cbor", b"+json", b"+protobuf", b"+yaml")
"""OpenAPI documents: `application/com.github.proto-openapi.spec.v3.v1.0+protobuf`."""


def is_worth(request: HttpRequest, status: int, headers: Headers, *, is_near: bool = False) -> bool:
    """Whether the body that follows this head is to be compressed. `headers` have lower-case names; `is_near`: hub and
    agent are in one place. A watch's events go as they are there, which saves the agent a third of its work (ADR 9);
    lists are packed faster than they would be encrypted."""
    if status != 200 or request.method != "GET" or request.upgrade or request.ext.get(compression.KEY) == 0:
        return False
    kind = b""
    for name, value in headers:
        if name == b"content-length":
            if int(value) < LEAST_BYTES:
                return False
        elif name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
        elif name == b"content-encoding":
            return False
    if is_near and _WATCH.search(request.path) and _WITH_LIST not in request.path:
        return False
    return kind in _TYPES or kind.endswith(_SUFFIXES)
