"""Denial of service at the edge (facts/security.md §2.K), with short deadlines in place of the real ones."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import sys

import pytest
import trustme

from hub.edge.limits import EdgeLimits
from hub.edge.listener import connection_bound
from hub.proxy.limits import ProxyLimits
from proto.versions import SUBPROTOCOL
from tests.harness.records import captured
from tests.security import rig

pytestmark = [pytest.mark.alone]

POST = b"POST /k8s/clusters/c1/api HTTP/1.1\r\n" + rig.HOST + rig.AUTH
CLOSE = b"Connection: close\r\n"


async def test_a_head_that_does_not_arrive() -> None:
    """K1: from the first byte on, whatever drips in between."""
    limits = EdgeLimits(head_timeout_s=0.2, sweep_interval_s=0.05)
    async with rig.line(limits=limits) as line:
        client = await line.connect()
        dripping = line.tasks.spawn(drip(client, rig.get()), name="drip")
        raw = await client.rest(5.0)
        assert rig.statuses_of(raw) == [408]
        dripping.cancel()
        silent = await line.connect()
        assert await silent.rest(5.0) == b""
        for each in (client, silent):
            each.close()


async def drip(client: rig.Client, raw: bytes) -> None:
    for position in range(len(raw)):
        await client.send(raw[position : position + 1])
        await asyncio.sleep(0.05)


async def test_an_idle_connection_is_closed_and_a_late_second_head_too() -> None:
    limits = EdgeLimits(head_timeout_s=0.2, idle_timeout_s=0.3, sweep_interval_s=0.05)
    async with rig.line(limits=limits) as line:
        await line.add_agent()
        client, late = await line.connect(), await line.connect()
        for each in (client, late):
            await each.send(rig.get())
            await each.response()
        await late.send(b"GET / HTTP")
        assert await client.rest(5.0) == b""
        assert rig.statuses_of(await late.rest(5.0)) == [408]
        for each in (client, late):
            each.close()


@pytest.mark.parametrize("lines", [b"Content-Length: 100000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_does_not_arrive(lines: bytes) -> None:
    """K2."""
    limits = EdgeLimits(body_grace_s=0.2, sweep_interval_s=0.05)
    async with rig.line(limits=limits) as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.accept()
        client = await line.connect()
        await client.send(POST + lines + b"\r\n" + b"5\r\n")
        assert rig.statuses_of(await client.rest(5.0)) == [408]
        await agent.seen[0].until(lambda seen: seen.code is not None)
        client.close()


async def test_a_body_that_waits_for_the_cluster_is_not_slow() -> None:
    """The agent returns no credit: reading stops, and the time does not count against the client."""
    limits = EdgeLimits(body_grace_s=0.2, sweep_interval_s=0.05)
    async with rig.line(limits=limits) as line:
        agent = await line.add_agent()

        def hold(seen: rig.Seen) -> None:
            seen.returns_credit = False
            seen.stream.accept()

        agent.script = hold
        client = await line.connect()
        size = 12_000_000
        client.writer.write(POST + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        seen = await agent.next()
        await asyncio.sleep(0.6)
        assert line.relay.live == 1
        assert len(seen.body) < 1_000_000
        seen.returns_credit = True
        seen.stream.consumed(len(seen.body))
        await seen.until(lambda seen: seen.is_ended, 10.0)
        seen.answer()
        assert rig.status_of(await client.response()) == 200
        client.close()


async def test_young_connections_of_one_address_are_bounded() -> None:
    """K1; a connection that has sent a request does not count."""
    limits = EdgeLimits(young_per_address_max=2, sweep_interval_s=0.05)
    async with rig.line(limits=limits) as line:
        await line.add_agent()
        grown = await line.connect()
        await grown.send(rig.get())
        await grown.response()
        kept = [await line.connect() for _ in range(2)]
        await asyncio.sleep(0.05)
        extra = await line.connect()
        await extra.rest(5.0)
        for client in (grown, *kept):
            await client.send(rig.get())
            assert rig.status_of(await client.response()) == 200
        for client in (grown, *kept, extra):
            client.close()


async def test_accepting_pauses_at_the_bound_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """K3."""
    monkeypatch.setattr("hub.edge.listener.connection_bound", lambda limits: 3)
    async with rig.line() as line:
        await line.add_agent()
        kept = [await line.connect() for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting = await line.connect()
        await waiting.send(rig.get())
        with pytest.raises(TimeoutError):
            await waiting.head(0.2)
        kept[0].close()
        assert rig.status_of(await waiting.head()) == 200
        for client in (*kept, waiting):
            client.close()


def test_the_bound_stays_below_the_descriptor_limit() -> None:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connection_bound(EdgeLimits(connections_max=10**9)) < soft * 0.9
    assert connection_bound(EdgeLimits(connections_max=100)) == 100


async def test_descriptors_run_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """K3: at most one log line a second, and accepting goes on afterwards."""
    async with rig.line() as line:
        await line.add_agent()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        clients = [await line.connect() for _ in range(5)]
        await asyncio.sleep(0.05)
        waiting = await line.connect()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            more = rig.get()
            waiting.writer.write(more)
            await asyncio.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert rig.status_of(await waiting.head()) == 200
        assert caplog.text.count("accepting failed") <= 1
        for client in (*clients, waiting):
            client.close()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A hub's, and that of a client which trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    return server, trusted


async def test_a_tls_handshake_has_a_deadline() -> None:
    """K4."""
    server, trusted = contexts()
    limits = EdgeLimits(tls_handshake_timeout_s=0.2, handshakes_max=2)
    async with rig.line(tls=server, limits=limits) as line:
        await line.add_agent()
        half = [await line.connect() for _ in range(2)]
        client = await line.connect(trusted)
        await client.send(rig.get())
        assert rig.status_of(await client.head()) == 200
        for each in half:
            await each.rest(5.0)
        for each in (*half, client):
            each.close()


def client_hello(*protocols: str) -> bytes:
    """The first words of one who may never say more."""
    context, said = ssl.create_default_context(), ssl.MemoryBIO()
    context.set_alpn_protocols(protocols)
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    return said.read()


async def test_a_crowd_of_agents_keeps_nobody_else_out() -> None:
    """Twenty that wait as agents and never end their handshakes, one at a time: somebody else waits for one of them."""
    server, trusted = contexts()
    limits = EdgeLimits(tls_handshake_timeout_s=0.3, handshakes_max=1)
    async with rig.line(tls=server, limits=limits) as line:
        await line.add_agent()
        crowd = [await line.connect() for _ in range(20)]
        for each in crowd:
            await each.send(client_hello(SUBPROTOCOL))
        async with asyncio.timeout(3.0):
            client = await line.connect(trusted)
            await client.send(rig.get())
            assert rig.status_of(await client.head()) == 200
        for each in (*crowd, client):
            each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="has one address of loopback")
@pytest.mark.parametrize("protocol", [SUBPROTOCOL, "http/1.1"])
async def test_handshakes_that_stand_still_keep_nobody_from_elsewhere_out(protocol: str) -> None:
    """Half a minute each, in all places, whatever they say that they are."""
    server, trusted = contexts()
    limits = EdgeLimits(tls_handshake_timeout_s=30.0, handshakes_max=4)
    async with rig.line(tls=server, limits=limits) as line:
        await line.add_agent()
        crowd = [await line.connect(source="127.0.0.2") for _ in range(8)]
        for each in crowd:
            await each.send(client_hello(protocol))
        async with asyncio.timeout(10.0):
            client = await line.connect(trusted)
            await client.send(rig.get())
            assert rig.status_of(await client.head()) == 200
        for each in (*crowd, client):
            each.close()


async def test_a_body_over_the_limit() -> None:
    """K5: told before it is read, or as soon as it is seen."""
    limits = ProxyLimits(body_bytes_max=1000)
    async with rig.line(proxy_limits=limits) as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.accept()
        assert rig.statuses_of(await line.ask(POST + b"Content-Length: 1001\r\n\r\n")) == [413]
        assert agent.seen == []
        raw = await line.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n")
        assert rig.statuses_of(raw) == [413]
        assert all(not seen.is_ended for seen in agent.seen)
        assert line.relay.live == 0


async def test_one_user_has_bounds() -> None:
    """K7: 429 with Retry-After, others are served."""
    async with rig.line(proxy_limits=ProxyLimits(per_user=2)) as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        held = [await line.connect() for _ in range(2)]
        for client in held:
            await client.send(rig.get())
        await agent.next(2)
        raw = await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        assert rig.statuses_of(raw) == [429]
        assert b"retry-after: 1" in raw
        agent.script = rig.answer_ok
        assert rig.statuses_of(await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE, auth=rig.BOSS_AUTH))) == [200]
        for client in held:
            client.close()


async def test_malformed_requests_do_not_flood_the_log() -> None:
    """K8."""
    with captured() as lines:
        async with rig.line() as line:
            for _ in range(50):
                await line.ask(b"GET  / HTTP/1.1\r\n\r\n")
    assert len([entry for entry in lines if entry["event"] == "request refused"]) <= 12
    assert all(len(str(entry)) < 1024 for entry in lines)


async def test_bodies_that_are_none_do_not_flood_the_log_either(caplog: pytest.LogCaptureFixture) -> None:
    """K8, where aiohttp reads: of its own accord it writes a traceback for each, and repeats what was sent."""
    head = b"POST /v1/tokens HTTP/1.1\r\n" + rig.HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    with captured() as lines:
        async with rig.line() as line:
            for _ in range(50):
                raw = await line.ask(head + b"CANARY\r\n")
                assert raw.startswith(b"HTTP/1.0 400 ")  # which version was meant it does not know
                assert b'"reason":"BadRequest"' in raw
                assert b"CANARY" not in raw
            counted = line.metrics.registry.get_sample_value("riata_hub_refusals_total", {"reason": "malformed"})
    assert counted == 50
    assert 1 <= len([entry for entry in lines if entry["event"] == "request refused"]) <= 12
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_fields_are_bounded_whatever_their_names_hash_to() -> None:
    """K10."""
    async with rig.line() as line:
        names = b"".join(b"X-%d: y\r\n" % number for number in range(300))
        assert rig.statuses_of(await line.ask(rig.get(b"/k8s/clusters/c1/api", names))) == [431]


async def test_pipelined_requests_behind_a_slow_one_are_bounded() -> None:
    async with rig.line(limits=EdgeLimits(pipelined_bytes_max=10_000)) as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get())
        await agent.next()
        client.writer.write(rig.get() * 20_000)
        await asyncio.sleep(0.1)
        connection = next(iter(line.edge._connections))
        assert len(connection._buffer) < 10_000 + 300_000
        assert len(agent.seen) == 1
        client.close()
        await asyncio.sleep(0.05)
