"""hub/edge/handover.py: a real aiohttp application behind the edge, on both loops, with and without TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web

from hub.edge.handover import Given, HandedOver
from tests.hub.edge.fakes import FakeTransport
from tests.room import room
from tests.security import rig


@web.middleware
async def close_behind(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    response = await handler(request)
    if response.status != 101:
        response.force_close()
    return response


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path, "body": (await request.read()).decode()})


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=("riata.mux.v1",), compress=False)
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(message.data)
    return socket


def application() -> web.Application:
    app = web.Application(middlewares=[close_behind])
    app.router.add_get("/v1/hello", hello)
    app.router.add_post("/v1/hello", hello)
    app.router.add_get("/v1/echo", echo)
    return app


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


uvloop.new_event_loop().close()  # the first one opens a pipe that the process keeps

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_on(name: str, main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(bounded())


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("loop_name", LOOPS)
def test_api_websocket_and_relay_side_by_side(loop_name: str, is_tls: bool) -> None:
    server, trusted = contexts() if is_tls else (None, None)

    async def main() -> None:
        async with rig.line(tls=server, app=application()) as line:
            agent = await line.add_agent()
            await api(line, trusted)
            await websocket(line, trusted)
            await relay(line, agent, trusted)
            await asyncio.sleep(0.1)
            assert line.edge.open_connections == 0

    run_on(loop_name, main)


@pytest.mark.parametrize("loop_name", LOOPS)
def test_a_stranger_who_says_no_goodbye_keeps_no_place(loop_name: str) -> None:
    """Over TLS a connection that we have closed waits for the peer's word, for as long as a slow reader may take."""
    server, trusted = contexts()

    async def main() -> None:
        async with rig.line(tls=server, app=application()) as line:
            client = await Silent.greeted(trusted, line.port)
            client.send(b"GET /v1/hello HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b'"path": "/v1/hello"' in await client.read()
            async with asyncio.timeout(5.0 * room()):
                while line.edge.open_connections:  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(0.05)
            client.close()

    run_on(loop_name, main)


class Silent:
    """A client that reads what TLS has for it, and answers nothing of its own accord."""

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._reader, self._writer = reader, writer

    @classmethod
    async def greeted(cls, context: ssl.SSLContext, port: int) -> Silent:
        made = cls(context, *await asyncio.open_connection("127.0.0.1", port))
        await made._until(made._tls.do_handshake)
        return made

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._writer.write(self._outgoing.read())

    async def read(self) -> bytes:
        data = b""
        while b"}" not in data:
            data += await self._until(lambda: self._tls.read(65_536))
        return data

    def close(self) -> None:
        self._writer.transport.abort()

    async def _until(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                self._incoming.write(await self._reader.read(65_536))
            else:
                self._writer.write(self._outgoing.read())
                return done


def test_who_has_its_answer_is_let_go_and_who_reads_nothing_later() -> None:
    transport, below = FakeTransport(), FakeTransport()
    given = Given(cast(asyncio.Transport, transport), cast(asyncio.Transport, below))
    assert not given.is_over(100.0, 1.0)
    assert not given.is_over(1_000.0, 1.0)  # it is being answered
    transport.is_closed = True
    assert [given.is_over(now, 1.0) for now in (2_000.0, 2_000.9, 2_001.0)] == [False, False, True]
    below.unsent = 5
    assert [given.is_over(now, 1.0) for now in (3_000.0, 3_029.0)] == [False, False]
    below.unsent = 4  # it reads
    assert [given.is_over(now, 1.0) for now in (3_029.5, 3_059.0, 3_059.5)] == [False, False, True]
    transport.is_closed = False  # not all was even written
    assert [given.is_over(now, 1.0) for now in (4_000.0, 4_029.0, 4_030.0)] == [False, False, True]


async def api(line: rig.Line, tls: ssl.SSLContext | None) -> None:
    url = f"{'https' if tls else 'http'}://127.0.0.1:{line.port}/v1/hello?a=b"
    async with aiohttp.ClientSession() as session:
        async with session.get(url, ssl=tls or True) as response:
            assert await response.json() == {"path": "/v1/hello", "body": ""}
            assert response.headers["connection"] == "close"
        async with session.post(url, data=b"x" * 300_000, ssl=tls or True) as response:
            assert (await response.json())["body"] == "x" * 300_000


async def websocket(line: rig.Line, tls: ssl.SSLContext | None) -> None:
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{line.port}/v1/echo"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=tls or True) as socket:
        for size in (1, 100_000, 2_000_000):
            await socket.send_bytes(b"z" * size)
            assert len(await socket.receive_bytes()) == size


async def relay(line: rig.Line, agent: rig.ScriptedAgent, tls: ssl.SSLContext | None) -> None:
    client = await line.connect(tls)
    before = len(agent.seen)
    for _ in range(3):
        await client.send(rig.get())
        assert rig.status_of(await client.response()) == 200
    assert len(agent.seen) == before + 3
    big = b"y" * 3_000_000
    agent.script = lambda seen: seen.answer(200, big)
    await client.send(rig.get())
    assert (await client.response()).endswith(big)
    agent.script = rig.answer_ok
    client.close()


async def test_a_relay_connection_may_become_an_api_connection_but_not_back() -> None:
    async with rig.line(app=application()) as line:
        agent = await line.add_agent()
        api_get = rig.get(b"/v1/hello")
        raw = await line.ask(rig.get() + api_get + rig.get())
        assert rig.statuses_of(raw) == [200, 200]
        assert len(agent.seen) == 1
        assert b'"path": "/v1/hello"' in raw


async def test_the_application_hears_from_where_a_connection_comes() -> None:
    peers: list[str] = []

    async def note(request: web.Request) -> web.Response:
        assert isinstance(request.protocol, HandedOver)
        peers.append(request.protocol.peer)
        return web.Response()

    app = web.Application(middlewares=[close_behind])
    app.router.add_get("/v1/note", note)
    async with rig.line(app=app) as line:
        assert rig.statuses_of(await line.ask(rig.get(b"/v1/note"))) == [200]
    assert [peer.rpartition(":")[0] for peer in peers] == ["127.0.0.1"]


async def test_the_edges_rules_hold_for_the_api_too() -> None:
    async with rig.line(app=application()) as line:
        for raw in (
            b"GET  /v1/hello HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /v1/hello HTTP/1.1\r\nHost: h\r\nX_Y: z\r\n\r\n",
            b"GET /v1/hello HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            b"GET /v1/hello HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ):
            assert rig.statuses_of(await line.ask(raw)) == [400]


async def test_what_the_edge_lets_in_is_not_refused_behind_it() -> None:
    """aiohttp's own bounds are 8,190 bytes and 128 fields."""
    async with rig.line(app=application()) as line:
        for more in (b"X-Long: " + b"y" * 16_000 + b"\r\n", b"".join(b"X-%d: y\r\n" % n for n in range(250))):
            assert rig.statuses_of(await line.ask(rig.get(b"/v1/hello", more))) == [200]
        assert rig.statuses_of(await line.ask(rig.get(b"/v1/hello?" + b"q" * 20_000))) == [200]


async def test_close_does_not_wait_for_ever() -> None:
    app = web.Application()

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    app.router.add_get("/hang", hang)
    async with rig.line(app=app) as line:
        client = await line.connect()
        await client.send(rig.get(b"/hang"))
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        await line.edge.close()
        assert asyncio.get_running_loop().time() - started < 5 * room()
        client.close()
