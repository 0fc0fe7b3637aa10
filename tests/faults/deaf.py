"""A socket that hears nothing for a while: the kernel drops each segment before TCP sees it (a filter of its own; needs
no right). Whoever is at the other end gets no acknowledgement."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Final

from hub.edge import synfilter

_DETACH_FILTER: Final = 27
"""asm-generic/socket.h; not in Python's `socket`."""
_DROP_ALL: Final = ((0x06, 0, 0, 0),)
"""linux/filter.h: `ret 0`."""


@contextlib.contextmanager
def deaf(sockets: Iterable[socket.socket]) -> Iterator[None]:
    """All of them, until the end of the block; those that are closed by then are left alone."""
    deafened = tuple(sockets)
    for sock in deafened:
        synfilter.attach(sock, _DROP_ALL)
    try:
        yield
    finally:
        for sock in deafened:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
