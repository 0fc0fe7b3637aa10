"""Several addresses of one server: a head start, the first that answers, nothing left behind."""

import asyncio
import contextlib
import os

import pytest

from proto.aio import dial
from proto.aio.dial import ClosedAtOnceError, first
from proto.aio.tasks import TaskGroup
from tests.proto.aio.names import black_hole, resolving


class Connection:
    def __init__(self, address):
        self.address = address
        self.is_aborted = False
        self.is_open = True

    def abort(self):
        self.is_aborted = True


class Net:
    """What each address does: an error, `ok`, `closes` as soon as it has connected, or nothing until `release`."""

    def __init__(self, **answers):
        self.answers = answers
        self.tried = []
        self.made = []
        self.released = asyncio.Event()

    async def connect(self, address):
        self.tried.append(address)
        answer = self.answers[address]
        if isinstance(answer, Exception):
            raise answer
        if answer == "stubborn":
            with contextlib.suppress(asyncio.CancelledError):  # it connects in the same moment
                await self.released.wait()
        elif answer not in {"ok", "closes"}:
            await self.released.wait()
        connection = Connection(address)
        connection.is_open = answer != "closes"
        self.made.append(connection)
        return connection


async def race(net, *addresses, head_start_s=0.01):
    async with TaskGroup("test") as group:
        return await first(addresses, net.connect, group, head_start_s=head_start_s)


async def test_the_first_one_when_it_answers():
    net = Net(a="ok", b="ok")
    assert (await race(net, "a", "b", head_start_s=5))[0] == "a"
    assert net.tried == ["a"]


async def test_a_failure_starts_the_next_at_once():
    net = Net(a=ConnectionRefusedError(), b="ok")
    async with asyncio.timeout(30):
        assert (await race(net, "a", "b", head_start_s=5))[0] == "b"


async def test_one_that_closes_at_once_is_no_way():
    net = Net(a="closes", b="ok")
    async with asyncio.timeout(30):
        assert (await race(net, "a", "b", head_start_s=5))[0] == "b"
    with pytest.raises(ClosedAtOnceError):
        await race(Net(a="closes", b=ConnectionRefusedError()), "a", "b")


async def test_a_silent_one_has_its_head_start():
    net = Net(a="silent", b="ok")
    address, connection = await race(net, "a", "b")
    assert (address, net.tried, connection.is_aborted) == ("b", ["a", "b"], False)
    assert net.made == [connection]


async def test_one_that_connects_too_late_is_dropped():
    net = Net(a="stubborn", b="ok")
    address, connection = await race(net, "a", "b")
    assert address == "b"
    assert [(each.address, each.is_aborted) for each in net.made if each is not connection] == [("a", True)]


async def test_when_all_fail_the_first_says_why(caplog):
    net = Net(a=TimeoutError("a"), b=ConnectionRefusedError("b"), c=UnicodeError("c"))
    with pytest.raises(TimeoutError, match="a"):
        await race(net, "a", "b", "c")
    assert "failed" not in caplog.text


async def test_cancelling_leaves_nothing():
    net = Net(a="silent", b="silent")
    async with TaskGroup("test") as group:
        task = group.spawn(first(["a", "b"], net.connect, group, head_start_s=0), name="dial")
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(group) == 0
    assert net.tried == ["a", "b"]


@contextlib.asynccontextmanager
async def listening():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def test_a_name_whose_first_address_drops_packets(monkeypatch):
    async with listening() as there:
        with black_hole() as hole:
            resolving(monkeypatch, **{"hub.test": [hole, there], "one.test": [there]})
            before = descriptors()
            with await dial.connected("hub.test", 443) as sock:
                assert (sock.getpeername(), sock.gettimeout()) == (there, 0)
                assert descriptors() == before + 1, "the one that lost is still open"
            assert await dial.answering("hub.test", 443) == there[0]
            assert await dial.answering("one.test", 443) == "one.test"
            assert descriptors() == before


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_cancelling_closes_every_socket(monkeypatch, turns):
    with black_hole() as hole, black_hole() as other:
        resolving(monkeypatch, **{"hub.test": [hole, other]})
        before = descriptors()
        async with TaskGroup("test") as group:
            task = group.spawn(dial.connected("hub.test", 443), name="dial")
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
        assert task.cancelled()
        assert descriptors() == before


async def test_a_winner_is_closed_when_its_caller_has_gone(monkeypatch):
    """Cancelled while the one that lost ends."""
    made = []

    class Group(TaskGroup):
        async def aclose(self):
            await super().aclose()
            raise asyncio.CancelledError

    async def keep(*args):
        made.append(await first(*args))
        return made[0]

    async with listening() as there:
        monkeypatch.setattr(dial, "TaskGroup", Group)
        monkeypatch.setattr(dial, "first", keep)
        resolving(monkeypatch, **{"hub.test": [there, there]})
        with pytest.raises(asyncio.CancelledError):
            await dial.connected("hub.test", 443)
    assert made[0][1].sock.fileno() == -1


async def test_nobody_listens_at_any_address(monkeypatch):
    async with listening() as there:
        pass
    resolving(monkeypatch, **{"hub.test": [there, there], "one.test": [there]})
    for name in ("hub.test", "one.test"):
        with pytest.raises(ConnectionRefusedError):
            await dial.connected(name, 443)
