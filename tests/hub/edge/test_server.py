"""hub/edge/server.py: start, drain, close."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from aiohttp import web

from hub.auth.agents import AgentAuthenticator
from hub.edge.application import Application
from hub.edge.limits import EdgeLimits
from hub.edge.server import EdgeServer
from hub.metrics import Metrics
from hub.tunnel.accept import TunnelEndpoint
from hub.tunnel.registry import Registry
from proto.messages import HttpHead
from tests.hub.edge.fakes import FakeTransport
from tests.security import rig
from tests.security.test_desync import contexts


def tunnels() -> TunnelEndpoint:
    return TunnelEndpoint(hub_id="hub", authenticator=AgentAuthenticator({}), registry=Registry(), metrics=Metrics())


async def test_start_names_its_addresses_and_a_taken_port_leaves_nothing() -> None:
    async with rig.line() as line:
        other = EdgeServer(
            listen=[("127.0.0.1", 0), ("127.0.0.1", line.port)],
            tls=None,
            aiohttp_app=web.Application(),
            tunnels=tunnels(),
            application=line.relay,
        )
        with pytest.raises(OSError, match="in use"):
            await other.start()


async def test_several_addresses() -> None:
    async with rig.line() as line:
        other = EdgeServer(
            listen=[("127.0.0.1", 0), ("127.0.0.1", 0)],
            tls=None,
            aiohttp_app=web.Application(),
            tunnels=tunnels(),
            application=line.relay,
        )
        bound = await other.start()
        assert len({port for _, port in bound}) == 2
        await other.close()


async def test_young_connections_of_one_ipv6_network_are_bounded_together() -> None:
    server = EdgeServer(
        listen=[],
        tls=None,
        aiohttp_app=web.Application(),
        tunnels=tunnels(),
        application=cast(Application, None),
        limits=EdgeLimits(young_per_address_max=2),
    )
    transports = [FakeTransport() for _ in range(5)]
    hosts = ["[2001:db8::1]", "[2001:db8::2]", "[2001:db8::3]", "[2001:db8:0:1::1]", "192.0.2.1"]
    connections = [server._make_protocol(f"{host}:1") for host in hosts]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(cast(asyncio.Transport, transport))
    assert [transport.is_aborted for transport in transports] == [False, False, True, False, False]
    for connection in connections:
        connection.connection_lost(None)
    assert not server._young


async def test_a_drain_waits_for_what_is_under_way_and_takes_nothing_new() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        busy, idle = await line.connect(), await line.connect()
        await idle.send(rig.get())
        assert (await idle.response()).endswith(b"ok")
        await agent.next()
        agent.script = lambda seen: None
        await busy.send(rig.get())
        seen = await agent.next(2)
        draining = line.tasks.spawn(line.edge.drain(5.0), name="drain")
        assert await idle.rest(5.0) == b""
        with pytest.raises(ConnectionRefusedError):
            await line.connect()
        seen.answer()
        answer = await busy.response()
        assert answer.endswith(b"ok")
        assert b"connection: close\r\n" in answer  # it came before the drain, and its client may have more to ask
        assert await busy.rest(5.0) == b""
        for client in (busy, idle):
            client.close()
        async with asyncio.timeout(30):
            await draining


async def test_who_waits_for_an_answer_when_the_hub_leaves_is_told_with_it() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get())
        seen = await agent.next()
        leaving = line.tasks.spawn(line.edge.leave(), name="leave")
        await asyncio.sleep(0)
        seen.answer()
        assert b"connection: close\r\n" in await client.response()
        assert await client.rest(5.0) == b""
        await leaving
        client.close()


async def test_a_watch_that_a_drain_has_ended_begins_again_elsewhere() -> None:
    """On another connection that its client has here it would hold the drain for all of its grace."""
    async with rig.line() as line:
        agent = await line.add_agent()
        client, other = await line.connect(), await line.connect()
        await other.send(rig.get())
        assert (await other.response()).endswith(b"ok")
        json = (b"content-type", b"application/json")
        agent.script = lambda seen: seen.stream.head(HttpHead(status=200, headers=(json,)))
        watch = rig.get(b"/k8s/clusters/c1/api/v1/pods?watch=1")
        await client.send(watch)
        assert b"transfer-encoding: chunked\r\n" in await client.head()
        leaving = line.tasks.spawn(line.edge.drain(20.0, line.relay.drain), name="drain")
        assert await client.exactly(5) == b"0\r\n\r\n"
        await other.send(watch)
        assert await other.rest(5.0) == await client.rest(5.0) == b""
        assert len(agent.seen) == 2
        for each in (client, other):
            each.close()
        async with asyncio.timeout(5):
            await leaving


async def test_nobody_at_the_door_holds_the_end_of_watches() -> None:
    """Neither a port scan nor a connection that a load balancer has made ahead: a handshake has five seconds."""
    server, client_side = contexts()
    async with rig.line(tls=server) as line:
        agent = await line.add_agent()
        json = (b"content-type", b"application/json")
        agent.script = lambda seen: seen.stream.head(HttpHead(status=200, headers=(json,)))
        client = await line.connect(client_side)
        await client.send(rig.get(b"/k8s/clusters/c1/api/v1/pods?watch=1"))
        assert b"transfer-encoding: chunked\r\n" in await client.head()
        silent = await line.connect()
        leaving = line.tasks.spawn(line.edge.drain(20.0, line.relay.drain), name="drain")
        async with asyncio.timeout(2.5):
            assert await client.exactly(5) == b"0\r\n\r\n"
        assert not leaving.done()
        for each in (client, silent):
            each.close()
        async with asyncio.timeout(10):
            await leaving


async def test_a_drain_without_any_time_lets_nobody_in_and_closes_what_is_idle() -> None:
    async with rig.line() as line:
        await line.add_agent()
        idle = await line.connect()
        await idle.send(rig.get())
        assert rig.status_of(await idle.response()) == 200
        await line.edge.drain(0.0)
        assert await idle.rest(5.0) == b""
        with pytest.raises(ConnectionRefusedError):
            await line.connect()
        idle.close()


async def test_a_drain_has_a_deadline_and_close_ends_the_rest() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get())
        await agent.next()
        await line.edge.drain(0.05)
        assert line.relay.live == 1
        await line.edge.close()
        await client.rest(5.0)
        assert line.relay.live == 0
        client.close()
