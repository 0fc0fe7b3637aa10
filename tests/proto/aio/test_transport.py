import asyncio
import socket

import pytest

from proto.aio import transport
from proto.aio.transport import Transport, pipe


class FakeSocket:
    """A socket that remembers its options; `refuses` names those that the platform does not have."""

    def __init__(self, family: int = socket.AF_INET, refuses: tuple[int, ...] = ()) -> None:
        self.family = family
        self.options: dict[tuple[int, int], int] = {}
        self._refuses = refuses

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if option in self._refuses:
            raise OSError("not supported")
        self.options[level, option] = value


class FakeTransport(asyncio.WriteTransport):
    high: int | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high


def test_the_options_of_a_tunnel() -> None:
    sock, writer = FakeSocket(), FakeTransport()
    transport.tune(sock, transport=writer)
    tcp = socket.IPPROTO_TCP
    assert sock.options[tcp, socket.TCP_NODELAY] == 1
    assert sock.options[tcp, socket.TCP_USER_TIMEOUT] == 20_000
    assert sock.options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    idle, interval, count = (
        sock.options[tcp, option] for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    last_probe_s = idle + interval * (count - 1)
    assert last_probe_s < 20 <= last_probe_s + interval, "Linux ends it by the user timeout, however few were lost"
    assert sock.options[tcp, socket.TCP_NOTSENT_LOWAT] == 131_072
    assert writer.high == 65_536


def test_what_cannot_be_tuned_is_left_alone() -> None:
    transport.tune(None)
    unix = FakeSocket(socket.AF_UNIX)
    transport.tune(unix)
    assert not unix.options
    old = FakeSocket(refuses=(socket.TCP_USER_TIMEOUT,))
    transport.tune(old)
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY) in old.options


@pytest.mark.parametrize(
    ("address", "text"),
    [(("1.2.3.4", 5), "1.2.3.4:5"), (("::1", 5, 0, 0), "[::1]:5"), ("/run/x", "unknown"), (None, "unknown")],
)
def test_addresses_as_text(address: object, text: str) -> None:
    assert transport.address_text(address) == text


def ends(limit: int = 100) -> tuple[Transport, Transport]:
    return pipe(limit)


async def test_messages_arrive_whole_and_in_order() -> None:
    one, two = ends()
    for message in (b"a", b"", b"bc"):
        await one.send(message)
    assert [await two.receive() for _ in range(3)] == [b"a", b"", b"bc"]


async def test_a_full_pipe_holds_its_sender() -> None:
    one, two = ends(limit=4)
    await one.send(b"1234")
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(one.send(b"5"))
        await asyncio.sleep(0)
        assert not sending.done()
        assert await two.receive() == b"1234"
        await sending
    assert await two.receive() == b"5"


async def test_an_orderly_end_comes_after_what_was_sent() -> None:
    one, two = ends()
    await one.send(b"last")
    async with asyncio.TaskGroup() as group:
        group.create_task(one.close(1000, "bye"))
        await asyncio.sleep(0)
        assert await two.receive() == b"last"
        for _ in range(2):
            with pytest.raises(EOFError):
                await two.receive()
        with pytest.raises(EOFError):
            await one.receive()
        with pytest.raises(ConnectionError):
            await two.send(b"late")


async def test_abort_is_heard_on_both_ends_at_once() -> None:
    one, two = ends(limit=1)

    async def hears(coro: object) -> None:
        with pytest.raises(ConnectionError):
            await coro  # type: ignore[misc] # any awaitable

    async with asyncio.TaskGroup() as group:
        group.create_task(hears(two.receive()))
        group.create_task(hears(one.receive()))
        group.create_task(hears(one.send(b"xxxx")))
        group.create_task(hears(two.send(b"xxxx")))
        await asyncio.sleep(0)
        one.abort()
        one.abort()
    await hears(two.send(b"x"))


async def test_receive_is_safe_to_cancel() -> None:
    one, two = ends()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(two.receive())
        await asyncio.sleep(0)
        waiting.cancel()
    await one.send(b"kept")
    assert await two.receive() == b"kept"
