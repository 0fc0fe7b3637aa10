"""Messages between their arrival and whoever wants them."""

import asyncio

import pytest

from proto.aio.inbox import WAITING_MAX, Inbox


class Receiver:
    def __init__(self) -> None:
        self.log: list[object] = []

    def message_received(self, message: bytes) -> None:
        self.log.append(message)

    def transport_writable(self) -> None:
        self.log.append("writable")

    def transport_lost(self, error: Exception) -> None:
        self.log.append(error)


async def test_a_handshake_awaits_and_a_receiver_gets_the_rest() -> None:
    inbox, receiver = Inbox(), Receiver()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(inbox.receive())
        await asyncio.sleep(0)
        inbox.put(b"1")
    assert first.result() == b"1"
    inbox.put(b"2")
    inbox.bind(receiver)
    inbox.put(b"3")
    assert receiver.log == []
    await asyncio.sleep(0)
    inbox.put(b"4")
    assert receiver.log == [b"2", b"3", b"4"]


async def test_the_end_comes_behind_the_messages_and_once() -> None:
    inbox, end = Inbox(), EOFError("end")
    inbox.put(b"last")
    inbox.lose(end)
    inbox.lose(ConnectionError("later"))
    assert await inbox.receive() == b"last"
    for _ in range(2):
        with pytest.raises(EOFError):
            await inbox.receive()
    receiver = Receiver()
    inbox.bind(receiver)
    await asyncio.sleep(0)
    assert receiver.log == [end]


async def test_it_is_full_until_somebody_takes_or_is_bound() -> None:
    inbox = Inbox()
    for _ in range(WAITING_MAX):
        assert not inbox.is_full
        inbox.put(b"x")
    assert inbox.is_full
    await inbox.receive()
    assert not inbox.is_full
    inbox.put(b"x")
    inbox.bind(Receiver())
    assert not inbox.is_full


async def test_waiting_is_safe_to_cancel() -> None:
    inbox = Inbox()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(inbox.receive())
        await asyncio.sleep(0)
        waiting.cancel()
    inbox.put(b"kept")
    assert await inbox.receive() == b"kept"


async def test_a_loss_wakes_who_waits() -> None:
    inbox = Inbox()
    async with asyncio.TaskGroup() as group:

        async def hears() -> None:
            with pytest.raises(ConnectionResetError):
                await inbox.receive()

        group.create_task(hears())
        await asyncio.sleep(0)
        inbox.lose(ConnectionResetError())
