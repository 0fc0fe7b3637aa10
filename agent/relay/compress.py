"""Which answers are compressed on the tunnel (docs/protocol.md §5.3)."""

import re
from typing import Final

from proto import compression
from proto.messages import Headers, HttpRequest

LEAST_BYTES: Final = 4096
"""An answer whose announced length is below goes as it is: it fits into a packet or three, and costs nothing so."""
NEAR_S: Final = 0.001
"""Below this round trip hub and agent are in one place, where bytes cost less than packing them. A watch's events go as
they are there: a third of the agent's work for each (ADR 9). Lists are packed faster than they would be encrypted."""

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


def is_worth(request: HttpRequest, status: int, headers: Headers, rtt_s: float | None = None) -> bool:
    """Whether the body that follows this head is to be compressed. `headers` have lower-case names; `rtt_s`: shortest
    round trip to the hub lately."""
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
    if rtt_s is not None and rtt_s < NEAR_S and _WATCH.search(request.path) and _WITH_LIST not in request.path:
        return False
    return kind in _TYPES or kind.endswith(_SUFFIXES)
