"""Whether a last answer has arrived, so that nobody is waited for who only does not say goodbye."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import termios
from typing import Any


def has_left(transport: asyncio.Transport, below: asyncio.WriteTransport | None) -> bool:
    """Nothing is left to write above TLS, below it, or in the kernel, as far as can be seen. A reader that pauses keeps
    the end of its output there for as long as it likes (P11)."""
    return unsent_bytes(transport, below) == 0


def unsent_bytes(transport: asyncio.Transport, below: asyncio.WriteTransport | None) -> int:
    """Bytes that are above TLS, below it, or in the kernel, as far as can be seen."""
    ours = transport.get_write_buffer_size() + (0 if below is None else below.get_write_buffer_size())
    return ours + _unacknowledged(transport.get_extra_info("socket"))


def _unacknowledged(sock: Any) -> int:
    """Bytes that the kernel has and the peer has not (tcp(7), SIOCOUTQ); 0 where there is no socket, 1 where the kernel
    does not say."""
    descriptor = -1 if sock is None else sock.fileno()
    if descriptor < 0:
        return 0
    found = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, found)
    except OSError as error:
        return int(error.errno != errno.EBADF)
    return found[0]
