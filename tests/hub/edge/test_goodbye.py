"""Whether a last answer has arrived."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

from hub.edge.goodbye import has_left
from tests.hub.edge.fakes import FakeTransport


class Way(FakeTransport):
    """A transport with a socket of its own."""

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__()
        self.real = sock

    def get_extra_info(self, name: str) -> socket.socket | None:  # type: ignore[override]
        return self.real if name == "socket" else None

    def asked(self, below: FakeTransport | None = None) -> bool:
        return has_left(cast(asyncio.Transport, self), cast(asyncio.Transport, below))


def test_what_is_above_or_below_tls_has_not_left() -> None:
    way, below = Way(None), FakeTransport()
    assert way.asked()
    assert way.asked(below)
    way.unsent = 1
    assert not way.asked(below)
    way.unsent, below.unsent = 0, 1
    assert not way.asked(below)


def test_what_the_kernel_has_and_the_peer_does_not_read_has_not_left() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    way = Way(ours)
    assert way.asked()
    ours.send(b"the end")
    assert not way.asked()
    assert theirs.recv(100) == b"the end"
    assert way.asked()
    theirs.close()
    ours.close()
    assert way.asked()  # it has ended


def test_where_the_kernel_does_not_say_it_has_not_left() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as unconnected:
        unconnected.bind(("127.0.0.1", 0))
        unconnected.listen()
        assert not Way(unconnected).asked()  # EINVAL


def test_a_descriptor_that_is_gone_holds_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)

    class Gone:
        def fileno(self) -> int:
            return write

    assert Way(cast(socket.socket, Gone())).asked()
