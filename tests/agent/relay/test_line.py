"""The thin line: a real link in memory, the real relay, a real TLS connection to a scripted API server."""

import asyncio
import contextlib

import pytest

from agent.counts import Counts
from agent.relay.admission import Admission
from agent.relay.context import RelayContext
from agent.relay.endpoint import Endpoint, KubeTrust
from agent.relay.policy import Policy
from agent.relay.pool import Pool, PoolLimits
from proto import limits
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.aio.transport import pipe
from proto.errors import Code
from proto.handshake import Negotiated
from proto.messages import HttpRequest, StreamClass, StreamKind
from proto.session import Role, Session
from tests.agent.apiserver import Pki, api_server, json_answer
from tests.agent.relay.stream import IDENTITY, FakeCredential
from tests.agent.waiting import until


class HubSide:
    """What the hub's proxy would be: collects one answer."""

    def __init__(self):
        self.status = None
        self.body = b""
        self.code = None
        self.done = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        self.stream = None

    def accepted(self, message):
        pass

    def head(self, message):
        self.status = message.status
        self.changed.set()

    def data(self, chunk):
        self.body += bytes(chunk)
        self.stream.consumed(len(chunk))
        self.changed.set()

    def trailers(self, headers):
        pass

    def end(self):
        if not self.done.done():
            self.done.set_result(self)

    def reset(self, code, text):
        self.code = code
        self.end()

    def writable(self):
        pass

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def line(tmp_path, script, pool_limits=None):
    """Yields (send, counts, server, pool): `send` opens a stream and returns its HubSide."""
    pki = Pki(tmp_path)
    async with api_server(pki, script) as (server, port), TaskGroup("test") as group:
        endpoint = Endpoint.from_url(f"https://localhost:{port}")
        counts = Counts()
        pool = Pool(endpoint, KubeTrust(ca_file=pki.ca_file), pool_limits or PoolLimits(), owner=group, counts=counts)
        relay = Admission(RelayContext(endpoint, pool, FakeCredential(), Policy(), counts))
        ends = pipe()
        agreed = Negotiated(1, limits.Limits().offer())
        hub = Link(Session(Role.HUB, agreed), ends[0], on_open=lambda *_: None, name="hub")
        agent = Link(Session(Role.AGENT, agreed), ends[1], on_open=relay.on_open, name="agent")
        group.spawn(hub.run(), name="hub")
        running = group.spawn(agent.run(), name="agent")

        def send(method="GET", path=b"/api", headers=(), body=None, upgrade=""):
            side = HubSide()
            request = HttpRequest(method=method, path=path, headers=(*headers, *IDENTITY), upgrade=upgrade)
            end = body is None and not upgrade
            side.stream = hub.open(request, side, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=end)
            if body is not None:
                side.stream.send(body, end=True)
            return side

        try:
            yield send, counts, server, pool
        finally:
            hub.close(Code.NONE)
            await running
            await pool.close()


async def test_gets_share_a_warm_connection(tmp_path):
    async def script(head, reader, writer):
        writer.write(json_answer(b"{}"))

    async with line(tmp_path, script) as (send, counts, server, pool):
        for _ in range(5):
            side = await send().done
            assert (side.status, side.body, side.code) == (200, b"{}", None)
        assert server.connections == 1
        assert pool.idle_connections == 1
        assert counts.active == 0


async def test_a_large_body_comes_whole_under_flow_control(tmp_path):
    body = bytes(range(256)) * 4096 * 8

    async def script(head, reader, writer):
        writer.write(json_answer(body))

    async with line(tmp_path, script) as (send, counts, _, _):
        side = await send().done
        assert side.body == body
        assert counts.response_bytes == len(body)


async def test_a_large_upload_goes_whole(tmp_path):
    body = bytes(range(256)) * 4096 * 2
    got = []

    async def script(head, reader, writer):
        got.append(await reader.readexactly(len(body)))
        writer.write(json_answer(b"{}", b"201 Created"))

    async with line(tmp_path, script) as (send, _, _, _):
        side = await send("POST", headers=((b"content-length", str(len(body)).encode()),), body=body).done
        assert side.status == 201
        assert got == [body]


async def test_a_watch_arrives_event_by_event_and_dies_with_its_client(tmp_path):
    closed = asyncio.Event()

    async def script(head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in (b"one\n", b"two\n"):
            writer.write(b"4\r\n%b\r\n" % event)
            await writer.drain()
            await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        closed.set()
        writer.close()

    async with line(tmp_path, script) as (send, counts, _, pool):
        side = send(path=b"/api/v1/pods?watch=1")
        await side.until(lambda s: s.body == b"one\ntwo\n")
        side.stream.reset(Code.CANCELLED)
        async with asyncio.timeout(30):
            await closed.wait()
        assert counts.active == 0
        assert pool.idle_connections == 0


async def test_an_upgrade_carries_bytes_both_ways_until_the_server_closes(tmp_path):
    async def script(head, reader, writer):
        assert b"upgrade: SPDY/3.1" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhi")
        data = await reader.readexactly(5)
        writer.write(data[::-1])
        await writer.drain()
        writer.close()

    async with line(tmp_path, script) as (send, counts, _, _):
        side = send("POST", b"/api/v1/namespaces/n/pods/p/exec", upgrade="SPDY/3.1")
        await side.until(lambda s: s.body == b"hi")
        side.stream.send(b"12345")
        await side.done
        assert (side.status, side.body, side.code) == (101, b"hi54321", None)
        assert counts.upgrades == 0


async def test_a_body_cut_short_is_a_reset(tmp_path):
    async def script(head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        writer.close()

    async with line(tmp_path, script) as (send, _, _, _):
        side = await send().done
        assert side.status == 200
        assert side.code is Code.UPSTREAM


async def test_more_requests_than_the_queue_holds_are_refused_and_the_rest_served(tmp_path):
    release = asyncio.Event()

    async def script(head, reader, writer):
        await release.wait()
        writer.write(json_answer(b"{}"))

    bounds = PoolLimits(connections=2, queue=4)
    async with line(tmp_path, script, bounds) as (send, counts, server, pool):
        sides = [send() for _ in range(4)]
        await until(lambda: server.connections == 2 and pool.waiting == 2)
        sides += [send() for _ in range(4)]
        await until(lambda: pool.waiting == 4 and counts.by_code[Code.REFUSED] == 2)
        release.set()
        done = [await side.done for side in sides]
        assert sorted(str(side.status) for side in done) == ["200"] * 6 + ["None"] * 2
        assert server.connections == 2


async def test_two_hundred_requests_at_once(tmp_path):
    async def script(head, reader, writer):
        writer.write(json_answer(b"{}"))

    async with line(tmp_path, script) as (send, _, server, _):
        sides = [send() for _ in range(200)]
        assert [(await side.done).status for side in sides] == [200] * 200
        assert server.connections <= 200
