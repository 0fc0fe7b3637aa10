"""Bounds of the session between two workers: those of the tunnel, where a hop must not be stricter or hold more."""

from __future__ import annotations

import dataclasses
from typing import Final

from proto.handshake import Negotiated
from proto.limits import KIB, Limits
from proto.versions import WIRE_VERSION

_WINDOW_MAX: Final = 512 * KIB
"""No distance to bridge, so windows need not grow."""
_SEND_QUEUE: Final = 64 * KIB


def hop_limits(tunnel: Limits) -> Limits:
    """The owner of the tunnel refuses by the tunnel's own bounds: the hop only carries what it says."""
    return dataclasses.replace(
        tunnel,
        window_bytes=min(tunnel.window_bytes, _WINDOW_MAX),
        window_max_bytes=max(min(tunnel.window_max_bytes, _WINDOW_MAX), min(tunnel.window_bytes, _WINDOW_MAX)),
        near_rtt_s=0.0,  # always in one place: what the tunnel behind it needs counts
        open_backlog=tunnel.streams,
        send_queue_bytes=_SEND_QUEUE,
        send_queue_low_bytes=_SEND_QUEUE // 2,
        reset_burst=tunnel.reset_burst * 4,
        reset_per_s=tunnel.reset_per_s * 4,
    )


def negotiated(limits: Limits) -> Negotiated:
    """Both ends run the same code with the same settings: nothing to negotiate."""
    return Negotiated(WIRE_VERSION, limits.offer(), limits.ping_per_s)
