"""The parser corpus on raw sockets (facts/security.md §2.B)."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.edge.limits import EdgeLimits
from hub.edge.server import EdgeServer
from tests.security import rig
from tests.security.desync import ROWS, SMUGGLED


@pytest.mark.parametrize(("raw", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_row(raw: bytes, expected: list[int]) -> None:
    """Statuses are as expected, and the agent served exactly the requests that were answered with 200."""
    async with rig.line() as line:
        agent = await line.add_agent()
        got = await line.ask(raw)
        assert rig.statuses_of(got) == expected
        answered = sum(status == 200 for status in expected)
        complete = [seen for seen in agent.seen if seen.is_ended]
        assert len(complete) == answered
        assert all(b"smuggled" not in seen.request.path for seen in agent.seen)
        if expected[-1] != 200:
            assert b"connection: close" in got[got.rindex(b"HTTP/1.1 %d" % expected[-1]) :]
            assert b'"kind":"Status"' in got


@pytest.mark.parametrize(
    ("raw", "expected"),
    [row[1:] for row in ROWS if len(row[1]) < 2000],
    ids=[row[0] for row in ROWS if len(row[1]) < 2000],
)
async def test_row_byte_by_byte(raw: bytes, expected: list[int]) -> None:
    """The same bytes in single-byte segments are read alike."""
    async with rig.line() as line:
        agent = await line.add_agent()
        client = await line.connect()
        for position in range(0, len(raw), 7):
            await client.send(raw[position : position + 7])
            await asyncio.sleep(0)
        assert rig.statuses_of(await client.rest()) == expected
        assert all(b"smuggled" not in seen.request.path for seen in agent.seen)
        client.close()


async def test_continue_only_after_authorisation() -> None:
    """B14: 100 is sent when the agent took the request, never before a refusal."""
    async with rig.line() as line:
        agent = await line.add_agent()
        head = (
            b"POST /k8s/clusters/%b/api HTTP/1.1\r\n"
            + rig.HOST
            + b"%bExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert rig.statuses_of(await line.ask(head % (b"c2", rig.AUTH))) == [403]
        assert rig.statuses_of(await line.ask(head % (b"c1", b""))) == [401]
        agent.script = lambda seen: seen.stream.accept()
        client = await line.connect()
        await client.send(head % (b"c1", rig.AUTH))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        seen = await agent.next()
        await seen.until(lambda seen: seen.is_ended)
        seen.answer()
        assert rig.status_of(await client.response()) == 200
        client.close()


async def test_an_early_final_answer_ends_the_connection() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(409, b"no")
        head = b"POST /k8s/clusters/c1/api HTTP/1.1\r\n" + rig.HOST + rig.AUTH
        raw = await line.ask(head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert rig.statuses_of(raw)[-1] == 409


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    server.set_alpn_protocols(["http/1.1"])
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_tls_on_the_plain_port() -> None:
    """B17."""
    async with rig.line() as line:
        raw = await line.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))
        assert rig.statuses_of(raw) in ([400], [])


async def test_plain_http_and_h2_on_the_tls_port(caplog: pytest.LogCaptureFixture) -> None:
    """B17: closed cleanly, without a traceback for each."""
    server, trusted = contexts()
    async with rig.line(tls=server) as line:
        await line.add_agent()
        assert not await line.ask(rig.get())
        trusted.set_alpn_protocols(["h2"])
        client = await line.connect(trusted)
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert rig.statuses_of(await client.rest()) == [505]
        client.close()
        other = await line.connect(trusted)
        await other.send(rig.get(b"/k8s/clusters/c1/api", b"Connection: close\r\n"))
        assert rig.statuses_of(await other.rest()) == [200]
        other.close()
    assert "Traceback" not in caplog.text


async def test_configured_host_names() -> None:
    """B4: with names configured, another Host is refused. tests/hub/test_app.py shows that the setting arrives here."""
    async with rig.line(host_names=frozenset({"Other.test"})) as line:
        await line.add_agent()
        assert rig.statuses_of(await line.ask(rig.get())) == [400]
        other = rig.get(b"/k8s/clusters/c1/api", b"Connection: close\r\n").replace(
            rig.HOST, b"Host: other.TEST:8443\r\n"
        )
        assert rig.statuses_of(await line.ask(other)) == [200]


FRAGMENTS = st.sampled_from(
    [
        b"GET /k8s/clusters/c1/a HTTP/1.1\r\n", rig.HOST, rig.AUTH, b"\r\n", b"Content-Length: 5\r\n", b"hello",
        b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"POST /k8s/clusters/c1/b HTTP/1.1\r\n",
        b"\n", b" ", b"Connection: close\r\n", b"Expect: 100-continue\r\n", SMUGGLED, b"\x00",
        b"Upgrade: websocket\r\n",
    ]
)  # fmt: skip


async def settled(agent: rig.ScriptedAgent) -> None:
    """Wait until the agent has seen nothing new for a while."""
    before, calm = -1, 0
    while calm < 3:
        await asyncio.sleep(0.01)
        calm = calm + 1 if len(agent.seen) == before else 0
        before = len(agent.seen)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FRAGMENTS, max_size=12).map(b"".join))
async def test_requests_at_the_agent_are_requests_that_were_answered(noise: bytes) -> None:
    """Property of the corpus: no request is served that is not answered, whatever the bytes."""
    async with rig.line() as line:
        agent = await line.add_agent()
        client = await line.connect()
        await client.send(noise)
        await settled(agent)  # an end of the client's would abort what is under way
        client.writer.write_eof()
        raw = await client.rest()
        served = sum(seen.is_ended and seen.code is None for seen in agent.seen)
        assert served <= rig.statuses_of(raw).count(200)
        assert rig.statuses_of(raw).count(200) <= len(agent.seen)
        client.close()


def test_limits_are_where_design_p6_puts_them() -> None:
    assert EdgeLimits().head_timeout_s == 10.0
    assert EdgeServer.__init__.__kwdefaults__["host_names"] is None
