"""hub/workers/transport.py: a pair of sockets as the transport of a link."""

from __future__ import annotations

import asyncio

import pytest

from hub.workers.packets import pair
from hub.workers.transport import HopTransport
from tests.hub.workers.fakes import until


class FakeReceiver:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.error: Exception | None = None
        self.has_room = 0

    def message_received(self, message: bytes) -> None:
        assert self.error is None
        self.messages.append(message)

    def transport_writable(self) -> None:
        self.has_room += 1

    def transport_lost(self, error: Exception) -> None:
        self.error = error


def bound() -> tuple[HopTransport, FakeReceiver, HopTransport, FakeReceiver]:
    ours, theirs = pair()
    one, two = HopTransport(ours, "two"), HopTransport(theirs, "one")
    receivers = FakeReceiver(), FakeReceiver()
    one.bind(receivers[0])
    two.bind(receivers[1])
    return one, receivers[0], two, receivers[1]


async def test_messages_arrive_and_a_full_socket_is_told() -> None:
    one, at_one, two, at_two = bound()
    sent = [bytes([n]) * 60_000 for n in range(30)]
    for message in sent:
        one.write(message)
    assert not one.is_writable
    await until(lambda: len(at_two.messages) == 30)
    assert at_two.messages == sent
    await until(lambda: at_one.has_room)
    assert one.is_writable
    one.abort()
    two.abort()


async def test_an_orderly_end_comes_behind_what_was_written() -> None:
    one, at_one, two, at_two = bound()
    sent = [bytes([n]) * 60_000 for n in range(30)]
    for message in sent:
        one.write(message)
    await one.close(1000, "done")
    await until(lambda: at_two.error)
    assert at_two.messages == sent
    assert isinstance(at_two.error, EOFError)
    assert isinstance(at_one.error, ConnectionAbortedError)
    two.write(b"too late")
    two.abort()


async def test_last_words_are_read_although_ours_were_not() -> None:
    one, _, two, at_two = bound()
    two.write(b"unread")
    one.write(b"last words")
    one.abort()
    two.write(b"also unread")
    await until(lambda: at_two.error)
    assert at_two.messages == [b"last words"]


async def test_abort_ends_whoever_waits_and_whoever_closes() -> None:
    ours, theirs = pair()
    one = HopTransport(ours, "two")
    receiving = asyncio.ensure_future(one.receive())  # noqa: TID251
    for _ in range(30):
        one.write(b"x" * 60_000)
    closing = asyncio.ensure_future(one.close(1000, "done"))  # noqa: TID251
    await asyncio.sleep(0)
    one.abort()
    one.abort()
    with pytest.raises(ConnectionAbortedError):
        await receiving
    await closing
    with pytest.raises(ConnectionError):
        await one.send(b"x")
    theirs.close()
