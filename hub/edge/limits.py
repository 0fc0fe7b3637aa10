"""Bounds of the public listener."""

from __future__ import annotations

import dataclasses
from typing import Final

HEAD_BYTES_MAX: Final = 56 * 1024
"""P6: a request head above this is 431; it has to fit into one control payload of 61,440 bytes."""

FIELD_BYTES_MAX: Final = 16 * 1024
"""P6: one header field, name and value; OIDC tokens and long label selectors stay below."""

FIELDS_MAX: Final = 256
"""P6: number of header fields."""

REMEMBERED_BYTES_MAX: Final = 4096
"""A longer head is not remembered: thousands of idle connections would keep twice its bytes each. kubectl's has 500."""

LEADING_CRLF_BYTES_MAX: Final = 4
"""Two empty lines before a request line are forgiven (RFC 9112 §2.2 asks for at least one)."""

CHUNK_EXTENSION_BYTES_MAX: Final = 1024
"""All chunk extensions of one message together; nobody sends any."""

TRAILER_BYTES_MAX: Final = 4096
"""Trailer section of one request; its fields are dropped, never forwarded."""

IDLE_S: Final = 120.0
"""How long a connection may wait for its next request: longer than its client does (`idle_timeout_s` says why)."""


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What an operator may tune. Durations in seconds, sizes in bytes."""

    head_timeout_s: float = 10.0
    """From the first byte of a connection or request to the end of its head (K1)."""
    idle_timeout_s: float = IDLE_S
    """A keep-alive connection without a request; above the 90 s after which kubectl, controllers and others in Go let
    go, and above what a load balancer in front keeps: a change that is sent while the hub closes is lost."""
    body_grace_s: float = 10.0
    """How long a body may be slow before body_rate_min counts (K2)."""
    body_rate_min: int = 1024
    """Bytes per second below which a body is given up (K2); time that we ourselves did not read is not counted."""
    linger_s: float = 1.0
    """After a refusal with the body still under way: how long it is read and thrown away so that the answer arrives."""
    tls_handshake_timeout_s: float = 5.0
    """K4."""
    tls_shutdown_timeout_s: float = 300.0
    """How long a closed connection may take for what is left to write and for the peer's close_notify: the event loop
    drops unsent bytes then, and `kubectl exec … | less` leaves the end of its output unsent for a while (P11)."""
    handshakes_max: int = 200
    """TLS handshakes under way at once (K4), fewer when they hold up the loop; more connections wait, accepted. When
    all places are taken one of the address with the most gives way to others after 1.5 s, any other after 2.5 s."""
    connections_max: int = 15_000
    """Open connections; lowered to 90 % of RLIMIT_NOFILE less a reserve when that is smaller (K3)."""
    young_per_address_max: int = 512
    """Connections of one address (IPv6: of one /64) without a whole request head yet (K1); tunnels behind a NAT do not
    count."""
    backlog: int = 4096
    """Kernel accept queue, for reconnect storms."""
    write_high_bytes: int = 64 * 1024
    """Unsent response bytes at which the agent stops getting credit."""
    pipelined_bytes_max: int = 64 * 1024
    """Bytes of later pipelined requests kept while one is answered; reading stops there."""
    sweep_interval_s: float = 1.0
    """How often deadlines are looked at: one timer for the process instead of one a request."""
