"""hub/edge/vanished.py, and the sweep that looks: ends of connections that nobody reads. On loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from hub import errors
from hub.auth.agents import AgentAuthenticator
from hub.edge.application import Front
from hub.edge.framing import Request
from hub.edge.limits import EdgeLimits
from hub.edge.server import EdgeServer
from hub.edge.vanished import gone
from hub.metrics import Metrics
from hub.tunnel.accept import TunnelEndpoint
from hub.tunnel.registry import Registry


class Held:
    """A program that takes no stdin: the body is paused at once."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.is_gone = asyncio.Event()

    def body(self, data: bytes) -> None:
        self.front.pause_body()

    def body_complete(self) -> None: ...

    def body_failed(self, error: errors.HubError) -> None: ...

    def drained(self) -> None: ...

    def client_eof(self) -> None: ...

    def gone(self) -> None:
        self.is_gone.set()


class Application:
    def __init__(self) -> None:
        self.begun: list[Held] = []
        self.has_begun = asyncio.Event()

    def begin(self, front: Front, request: Request) -> Held:
        self.begun.append(Held(front))
        self.has_begun.set()
        return self.begun[-1]

    def refused(self, peer: str, error: errors.HubError, request: Request | None) -> str:
        return ""


@contextlib.asynccontextmanager
async def upload() -> AsyncIterator[tuple[socket.socket, Held]]:
    """A client in the middle of an upload that the hub has stopped reading."""
    application = Application()
    limits = EdgeLimits(sweep_interval_s=0.02)
    server = EdgeServer(
        listen=[("127.0.0.1", 0)],
        tls=None,
        aiohttp_app=web.Application(),
        application=application,
        tunnels=TunnelEndpoint(
            hub_id="hub", authenticator=AgentAuthenticator({}), registry=Registry(), metrics=Metrics()
        ),
        limits=limits,
    )
    ((host, port), *_) = await server.start()
    client = socket.create_connection((host, port))
    try:
        client.sendall(b"POST /k8s/clusters/a/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + bytes(1000))
        async with asyncio.timeout(30):
            await application.has_begun.wait()
        client.sendall(bytes(1000))
        await asyncio.sleep(0.05)
        yield client, application.begun[0]
    finally:
        client.close()
        await server.close()


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_leaves_while_its_upload_waits_is_noticed(is_reset: bool) -> None:
    async with upload() as (client, exchange):
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        async with asyncio.timeout(30):
            await exchange.is_gone.wait()


async def test_a_client_that_waits_stays() -> None:
    async with upload() as (_client, exchange):
        await asyncio.sleep(0.1)
        assert not exchange.is_gone.is_set()


def test_nothing_to_look_at() -> None:
    class Closed:
        def fileno(self) -> int:
            return -1

    assert gone([]) == []
    assert gone([Closed()]) == []
