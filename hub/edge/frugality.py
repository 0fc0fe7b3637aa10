"""How much a client that reads nothing may make the hub and its kernel hold, below what waits in `hub.edge.unsent`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

from hub.edge.unsent import FRUGAL_BYTES

UNSENT_MAX_BYTES: Final = 256 * 1024
"""What the kernel takes for a connection beyond what it may send at once. Without it somebody who has stopped reading
holds up to 4 MB of the kernel's memory for TCP, which all connections of a machine share."""


def limit_kernel(sock: Any, most: int) -> None:
    """`sock`: a socket, or what a transport shows of it. Does nothing where the system has no TCP_NOTSENT_LOWAT. Raises
    OSError, and for what uvloop shows of a closed one ValueError."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)


def change(transport: asyncio.Transport, below: asyncio.WriteTransport | None, *, high: int, is_frugal: bool) -> None:
    """How much each of them holds: the transport and the one below its TLS `high` bytes, the kernel what it usually
    does; frugal, little. What they hold counts as read, and more is asked for in its place.
    """
    for each in (below, transport):
        if each is not None and not each.is_closing():  # closed a turn before we hear of it, uvloop's raises
            each.set_write_buffer_limits(high=min(high, FRUGAL_BYTES) if is_frugal else high)
    with contextlib.suppress(OSError, ValueError):  # the same of its socket
        sock = transport.get_extra_info("socket")
        if sock is not None:
            limit_kernel(sock, FRUGAL_BYTES if is_frugal else UNSENT_MAX_BYTES)
