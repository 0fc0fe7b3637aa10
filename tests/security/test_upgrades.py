"""Upgrade abuse on raw sockets (facts/security.md §2.D)."""

from __future__ import annotations

import asyncio
import base64

import pytest

from hub.proxy.upgrade import UpgradeExchange
from proto import codec
from proto.errors import Code
from proto.frames import FrameType
from proto.messages import HttpHead
from tests.harness.records import captured
from tests.security import rig
from tests.security.rig import Seen

EXEC = b"/k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec?command=sh"
WS = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n"
)
SPDY = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
SECRETS = rig.get(b"/k8s/clusters/c1/api/v1/secrets")


def switch(seen: Seen) -> None:
    seen.stream.head(
        HttpHead(
            status=101,
            headers=((b"sec-websocket-accept", b"abc"), (b"sec-websocket-protocol", b"v5.channel.k8s.io")),
        )
    )


def switch_spdy(seen: Seen) -> None:
    seen.stream.head(HttpHead(status=101, headers=((b"x-stream-protocol-version", b"v4.channel.k8s.io"),)))


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 426, 500])
@pytest.mark.parametrize("lines", [WS, SPDY], ids=["websocket", "spdy"])
async def test_a_refused_upgrade_is_the_last_thing_on_the_connection(status: int, lines: bytes) -> None:
    """CVE-2018-1002105: the second request never reaches the API server."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(status, b"" if status == 204 else b"nope")
        client = await line.connect()
        await client.send(rig.get(EXEC, lines))
        head = await client.head()
        assert rig.status_of(head) == status
        if status != 204:
            assert await client.exactly(4) == b"nope"
        await client.send(SECRETS)
        assert await client.rest(5.0) == b""
        assert len(agent.seen) == 1
        assert bytes(agent.seen[0].body) == b""
        await asyncio.sleep(0)
        assert agent.seen[0].stream.is_closed
        client.close()


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirected_upgrade_is_an_error_of_ours(status: int) -> None:
    """D2: never followed, never passed on, and no 502 (P11)."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(status, b"", (b"location", b"https://evil/"))
        raw = await line.ask(rig.get(EXEC, WS) + SECRETS)
        assert rig.statuses_of(raw) in ([503], [504])
        assert b"evil" not in raw
        assert len(agent.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_plain_redirect_is_passed_on_without_its_target(status: int) -> None:
    """D3: kubectl would follow it to another cluster with its token."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(status, b"x", (b"location", b"/k8s/clusters/c2/api"))
        raw = await line.ask(rig.get(b"/k8s/clusters/c1/api", b"Connection: close\r\n"))
        assert rig.statuses_of(raw) == [status]
        assert b"location" not in raw.lower()
        assert len(agent.seen) == 1


async def test_nothing_is_forwarded_before_the_101() -> None:
    """A late 101; the client's early bytes come with the request head and before the answer."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get(EXEC, WS) + b"early")
        seen = await agent.next()
        await client.send(b" and more")
        await asyncio.sleep(0.05)
        assert not seen.body
        switch(seen)
        head = await client.head()
        assert rig.status_of(head) == 101
        assert b"upgrade: websocket\r\n" in head
        assert b"sec-websocket-protocol: v5.channel.k8s.io\r\n" in head
        await seen.until(lambda seen: bytes(seen.body) == b"early and more")
        seen.stream.send(b"\x81\x02hi")
        assert await client.exactly(4) == b"\x81\x02hi"
        client.close()
        await seen.until(lambda seen: seen.code is not None or seen.is_ended)


async def test_early_bytes_die_with_a_refusal() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(403, b"no")
        raw = await line.ask(rig.get(EXEC, SPDY) + SECRETS + SECRETS)
        assert rig.statuses_of(raw) == [403]
        assert len(agent.seen) == 1


async def test_too_many_early_bytes_wait_in_the_kernel() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        client.writer.write(rig.get(EXEC, SPDY) + bytes(8_000_000))
        seen = await agent.next()
        await asyncio.sleep(0.1)
        connection = next(iter(line.edge._connections))
        assert len(connection._buffer) < 1_000_000
        switch_spdy(seen)
        assert rig.status_of(await client.head()) == 101
        await seen.until(lambda seen: len(seen.body) == 8_000_000, 10.0)
        client.close()


async def test_a_101_nobody_asked_for() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get(EXEC.replace(b"exec", b"log")))
        seen = await agent.next()
        await agent.inject(FrameType.HEAD, seen.stream.id, codec.encode(HttpHead(status=101, headers=())))
        raw = await client.response()
        assert rig.statuses_of(raw) == [500]
        client.close()


async def test_a_subprotocol_that_was_not_offered() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.head(
            HttpHead(status=101, headers=((b"sec-websocket-protocol", b"evil"),))
        )
        raw = await line.ask(rig.get(EXEC, WS))
        assert 101 not in rig.statuses_of(raw)


async def test_a_second_101_ends_the_exchange() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = switch
        client = await line.connect()
        await client.send(rig.get(EXEC, WS))
        seen = await agent.next()
        assert rig.status_of(await client.head()) == 101
        await agent.inject(FrameType.HEAD, seen.stream.id, codec.encode(HttpHead(status=101, headers=())))
        assert await client.rest(5.0) == b""
        assert client.is_broken
        client.close()


UPGRADES = [
    b"h2c", b"tcp", b"websocket, h2c", b"connect-udp", b"websocket/13", b"SPDY/3.0", b"TLS/1.0",
    b"SPDY/3.1, websocket", b"",
]  # fmt: skip


@pytest.mark.parametrize("token", UPGRADES)
async def test_only_two_protocols_exact_and_alone(token: bytes) -> None:
    """D4."""
    async with rig.line() as line:
        agent = await line.add_agent()
        raw = await line.ask(rig.get(EXEC, b"Connection: Upgrade\r\nUpgrade: " + token + b"\r\n") + SECRETS)
        assert rig.statuses_of(raw) == [400]
        assert agent.seen == []


async def test_spdy() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = switch_spdy
        client = await line.connect()
        raw = rig.get(EXEC, SPDY).replace(b"GET ", b"POST ", 1)
        await client.send(raw)
        head = await client.head()
        assert rig.status_of(head) == 101
        assert b"upgrade: SPDY/3.1\r\n" in head
        assert b"x-stream-protocol-version: v4.channel.k8s.io\r\n" in head
        seen = agent.seen[0]
        assert seen.request.upgrade == "SPDY/3.1"
        assert seen.request.method == "POST"
        assert not seen.is_ended
        await client.send(b"\x80\x03")
        await seen.until(lambda seen: bytes(seen.body) == b"\x80\x03")
        seen.stream.send(b"bye", end=True)
        assert await client.rest(5.0) == b"bye"
        client.close()


async def test_a_half_closed_upgrade_ends_on_both_sides() -> None:
    """D7: within a second."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = switch_spdy
        client = await line.connect()
        await client.send(rig.get(EXEC, SPDY))
        await client.head()
        await client.send(b"last words")
        client.writer.write_eof()
        seen = agent.seen[0]
        await seen.until(lambda seen: seen.is_ended)
        assert bytes(seen.body) == b"last words"
        await client.rest(5.0)
        await seen.until(lambda seen: seen.code is not None)
        assert line.relay.live == 0
        client.close()


async def test_a_lost_tunnel_breaks_the_session() -> None:
    """In the middle of a frame: nothing of ours may become a part of it."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = switch_spdy
        client = await line.connect()
        await client.send(rig.get(EXEC, SPDY))
        await client.head()
        piece = b"\x00\x00\x00\x03\x00\x01\x00\x00half of a large one"
        agent.seen[0].stream.send(piece)
        assert await client.exactly(len(piece)) == piece
        agent.transport.abort()
        assert await client.rest(5.0) == b""
        assert client.is_broken
        client.close()


LOST = b"riata: the connection to the cluster's agent was lost"
CLOSE = b"\x88\x37\x03\xf3" + LOST
PIECES = {
    # What came before, and what of it the client has. What it reads then; if nothing, the connection is reset.
    "spdy": (SPDY, switch_spdy, b"\x00\x00\x00\x03\x00\x00\x00\x02hi", 10, b'"message": "%b"' % LOST),
    "spdy, in a frame": (SPDY, switch_spdy, b"\x00\x00\x00\x03\x00\x00\x00\x03hi", 0, b'"message": "%b"' % LOST),
    "spdy, its status has come": (SPDY, switch_spdy, b"\x00\x00\x00\x01\x01\x00\x00\x02{}", 10, b""),
    "spdy, another version": (SPDY, switch_spdy, b"\x80\x02\x00\x01\x00\x00\x00\x00", 8, b""),
    "websocket": (WS, switch, b"\x82\x03\x01hi", 5, CLOSE),
    "websocket, in a message": (WS, switch, b"\x02\x03\x01hi", 5, CLOSE),
    "websocket, in a frame": (WS, switch, b"\x82\x03\x01hi\x82\x04\x01hi", 5, CLOSE),
    "websocket, in a head": (WS, switch, b"\x82\x7e\x00", 0, CLOSE),
    "websocket, in a large frame": (WS, switch, b"\x82\x7e\xff\xff\x01hi", 7, b""),
    "websocket, closed": (WS, switch, b"\x88\x02\x03\xe8", 4, b""),
    "websocket, closing": (WS, switch, b"\x88\x02\x03", 0, b""),
    "websocket, masked": (WS, switch, b"\x82\x80\x00\x00\x00\x00", 6, b""),
    "websocket, an extension": (WS, switch, b"\xc2\x01\x01", 3, b""),
    "websocket, without end": (WS, switch, b"\x82\x7f" + b"\xff" * 8, 10, b""),
    "websocket, too many": (WS, switch, b"\x82\x00" * 600, 1200, b""),
}


@pytest.mark.parametrize("case", PIECES)
async def test_the_hubs_last_words_come_between_two_frames_only(case: str) -> None:
    lines, script, piece, seen, words = PIECES[case]
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = script
        client = await line.connect()
        await client.send(rig.get(EXEC, lines))
        await client.head()
        agent.seen[0].stream.send(piece)
        assert await client.exactly(seen) == piece[:seen]
        (exchange,) = line.relay._live
        assert isinstance(exchange, UpgradeExchange)
        while len(exchange._held) < len(piece) - seen:  # noqa: ASYNC110 - no event tells that it has come
            await asyncio.sleep(0)
        agent.transport.abort()
        rest = await client.rest(5.0)
        assert words in rest if words else rest == b""
        assert client.is_broken == (not words)
        client.close()


async def test_every_upgrade_is_accounted_for() -> None:
    """D6: one line with bytes both ways, duration and how it ended."""
    with captured() as lines:
        async with rig.line() as line:
            agent = await line.add_agent()
            agent.script = switch_spdy
            client = await line.connect()
            await client.send(rig.get(EXEC, SPDY))
            await client.head()
            await client.send(b"12345")
            seen = agent.seen[0]
            await seen.until(lambda seen: len(seen.body) == 5)
            seen.stream.send(b"123", end=True)
            await client.rest()
            client.close()
    (entry,) = [entry for entry in lines if entry["event"] == "request"]
    assert (entry["bytes_in"], entry["bytes_out"], entry["outcome"], entry["status"]) == (5, 3, "ok", 101)
    assert (entry["verb"], entry["user"], entry["cluster"]) == ("connect", "alice", "c1")
    assert "command" not in entry["path"]


@pytest.mark.parametrize("origin", [b"https://evil", b"null", b"https://hub.test:444"])
async def test_a_cookie_is_never_a_credential(origin: bytes) -> None:
    """D8, D9: there is no ambient authority that a foreign page could use. Origin is apiserver's to judge."""
    async with rig.line() as line:
        agent = await line.add_agent()
        cookie = b"Cookie: token=" + rig.ALICE.encode() + b"\r\nOrigin: " + origin + b"\r\n"
        assert rig.statuses_of(await line.ask(rig.get(EXEC, WS + cookie, auth=b""))) == [401]
        assert agent.seen == []


async def test_revocation_cuts_a_session() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = switch_spdy
        client = await line.connect()
        await client.send(rig.get(EXEC, SPDY))
        await client.head()
        assert line.relay.cut(token_id="aliceaaaaa") == 1
        await client.rest(5.0)
        await agent.seen[0].until(lambda seen: seen.code is Code.CANCELLED)
        client.close()


async def test_a_bearer_protocol_never_travels() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = switch
        token = base64.urlsafe_b64encode(rig.ALICE.encode()).rstrip(b"=")
        lines = WS.replace(b"v5.channel", b"base64url.bearer.authorization.k8s.io." + token + b", v5.channel")
        client = await line.connect()
        await client.send(rig.get(EXEC, lines, auth=b""))
        head = await client.head()
        assert rig.status_of(head) == 101
        assert token not in head
        assert agent.seen[0].headers_named(b"sec-websocket-protocol") == [b"v5.channel.k8s.io, v4.channel.k8s.io"]
        client.close()
