"""hub/edge/handover.py: a real aiohttp application behind the edge, on both loops, with and without TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web

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


async def test_the_edges_rules_hold_for_the_api_too() -> None:
    async with rig.line(app=application()) as line:
        for raw in (
            b"GET  /v1/hello HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /v1/hello HTTP/1.1\r\nHost: h\r\nX_Y: z\r\n\r\n",
            b"GET /v1/hello HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            b"GET /v1/hello HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ):
            assert rig.statuses_of(await line.ask(raw)) == [400]


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
