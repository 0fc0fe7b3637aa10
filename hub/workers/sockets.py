"""The listening sockets of several workers on the same addresses: one each (SO_REUSEPORT), made by the main process.

It keeps them, so that connections wait for the next process of a worker that has ended instead of being reset.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from hub.edge.listener import bind

Address = tuple[str, int]


def reserve(listen: Sequence[Address], backlog: int) -> list[Address]:
    """The addresses that `listen` stands for, with ports. Raises OSError when somebody listens there: a shared socket
    would join another hub of the same user without a word."""
    found: list[Address] = []
    sockets: list[socket.socket] = []
    try:
        for host, port in listen:
            sockets += bind(host, port, backlog)
        found = [sock.getsockname()[:2] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
    return found


def listening(addresses: Sequence[Address], backlog: int) -> list[socket.socket]:
    """One socket for each address. Raises OSError and leaves nothing open."""
    sockets: list[socket.socket] = []
    try:
        for host, port in addresses:
            sockets += bind(host, port, backlog, is_shared=True)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets
