"""How much a client that reads nothing may make the hub and its kernel hold, below what waits in `hub.edge.unsent`."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from hub.edge.unsent import FRUGAL_BYTES
from proto.aio.transport import set_option_below

UNSENT_MAX_BYTES: Final = 256 * 1024
"""What the kernel takes for a connection beyond what it may send at once. Without it somebody who has stopped reading
holds up to 4 MB of the kernel's memory for TCP, which all connections of a machine share."""


def change(transport: asyncio.Transport, below: asyncio.WriteTransport | None, *, high: int, is_frugal: bool) -> None:
    """How much each of them holds: the transport and the one below its TLS `high` bytes, the kernel what it usually
    does; frugal, little. What they hold counts as read, and more is asked for in its place.
    """
    for each in (below, transport):
        if each is not None and not each.is_closing():  # closed a turn before we hear of it, uvloop's raises
            each.set_write_buffer_limits(high=min(high, FRUGAL_BYTES) if is_frugal else high)
    kernel = FRUGAL_BYTES if is_frugal else UNSENT_MAX_BYTES
    set_option_below(transport, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", kernel)
