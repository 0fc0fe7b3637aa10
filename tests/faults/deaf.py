"""A socket that hears nothing for a while: the kernel drops each segment before TCP sees it (a filter of its own; needs
no right). Whoever is at the other end gets no acknowledgement."""

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

_ATTACH_FILTER: Final = 26
_DETACH_FILTER: Final = 27
"""asm-generic/socket.h; not in Python's `socket`."""
_DROP_ALL: Final = struct.pack("@HBBI", 0x06, 0, 0, 0)
"""linux/filter.h: `ret 0`."""


@contextlib.contextmanager
def deaf(sockets: Iterable[socket.socket]) -> Iterator[None]:
    """All of them, until the end of the block; those that are closed by then are left alone."""
    deafened = tuple(sockets)
    program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    for sock in deafened:
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
    try:
        yield
    finally:
        for sock in deafened:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
