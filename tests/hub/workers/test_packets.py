"""hub/workers/packets.py: pairs of sockets that keep message boundaries."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hub.workers.packets import PacketSocket, pair


class End:
    """One end, with what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self.packets: list[bytes] = []
        self.sockets: list[socket.socket] = []
        self.is_lost = False
        self.has_room = 0
        self.socket = PacketSocket(sock, on_packet=self._packet, on_lost=self._lost, on_room=self._room)

    def _packet(self, packet: bytes, sockets: list[socket.socket]) -> None:
        self.packets.append(packet)
        self.sockets += sockets

    def _lost(self) -> None:
        self.is_lost = True

    def _room(self) -> None:
        self.has_room += 1


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_boundaries_and_order_hold() -> None:
    one, two = (End(sock) for sock in pair())
    assert one.socket.send(b"a")
    assert one.socket.send(b"bc" * 50_000)
    await turns()
    assert two.packets == [b"a", b"bc" * 50_000]
    one.socket.close()
    await turns()
    assert two.is_lost
    assert not one.is_lost  # its own wish
    assert two.socket.send(b"x")  # nothing, and no error


async def test_what_does_not_fit_waits_and_leaves_in_order() -> None:
    one, two = (End(sock) for sock in pair())
    two.socket.pause()
    sent = [bytes([n]) * 60_000 for n in range(40)]
    fits = [one.socket.send(packet) for packet in sent]
    assert fits[0]
    assert not fits[-1]
    assert one.socket.waiting_bytes > 0
    two.socket.resume()
    await turns(200)
    assert two.packets == sent
    assert one.has_room == 1
    assert one.socket.waiting_bytes == 0
    one.socket.close()
    two.socket.close()


async def test_sockets_change_hands() -> None:
    one, two = (End(sock) for sock in pair())
    kept, given = socket.socketpair()
    with kept:
        one.socket.send(b"take it", [given])
        await turns()
        assert given.fileno() == -1  # not ours any more
        (taken,) = two.sockets
        with taken:
            assert not taken.get_inheritable()
            kept.send(b"hello")
            assert taken.recv(10) == b"hello"
    one.socket.close()
    two.socket.close()


async def test_the_end_of_a_process_is_told_once() -> None:
    ours, theirs = pair()
    one = End(ours)
    theirs.close()
    one.socket.send(b"too late")
    await turns()
    assert one.is_lost
    assert one.socket.is_closed


async def test_a_packet_that_cannot_be_sent_ends_the_socket(caplog: pytest.LogCaptureFixture) -> None:
    """What comes after it would be read as if nothing were missing."""
    ours, theirs = pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024)
    one, two = End(ours), End(theirs)
    kept, given = socket.socketpair()
    one.socket.send(b"before")
    one.socket.send(b"too long" * 10_000, [given])
    one.socket.send(b"after")
    assert not one.is_lost  # who sends is in the middle of something
    await turns()
    assert one.is_lost
    assert one.socket.is_closed
    assert (two.packets, two.is_lost) == ([b"before"], True)
    with kept:
        assert given.fileno() == -1
    assert caplog.messages == ["packet not sent, socket closed"]


async def test_one_that_waited_and_cannot_be_sent_ends_the_socket() -> None:
    ours, theirs = pair()
    one, two = End(ours), End(theirs)
    two.socket.pause()
    while one.socket.send(b"x" * 60_000):
        pass
    kept, closed = socket.socketpair()
    with kept:
        one.socket.send(b"with a socket that is closed", [closed])
        one.socket.send(b"after")
        closed.close()
        two.socket.resume()
        await turns(200)
    assert one.is_lost
    assert two.is_lost
    assert set(two.packets) == {b"x" * 60_000}
    assert one.has_room == 0


async def test_who_closes_is_not_told_of_a_packet_that_could_not_be_sent() -> None:
    ours, theirs = pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024)
    with theirs:
        one = End(ours)
        one.socket.send(b"too long" * 10_000)
        one.socket.close()
        await turns()
    assert not one.is_lost
