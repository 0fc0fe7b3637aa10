"""What a cluster answers, however broken, as a client sees it (facts/security.md §2.E; design P2, P11)."""

from __future__ import annotations

import asyncio
import json

import pytest

from proto import codec
from proto.errors import Code
from proto.frames import FrameType
from proto.messages import HttpHead
from tests.room import room
from tests.security import rig
from tests.security.rig import Seen

CLOSE = b"Connection: close\r\n"
WATCH = b"/k8s/clusters/c1/api/v1/pods?watch=1"
JSON = (b"content-type", b"application/json")


def head(status: int, *fields: tuple[bytes, bytes]) -> HttpHead:
    return HttpHead(status=status, headers=fields)


def post(body: bytes = b"{}", *lines: bytes) -> bytes:
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"POST /k8s/clusters/c1/api/v1/pods HTTP/1.1\r\n" + rig.HOST + rig.AUTH + b"".join(lines) + length + body


async def test_response_head_hygiene() -> None:
    """E13: cookies, policies and connection fields of a cluster do not reach a browser at the hub's origin."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(
            200,
            b"<script>alert(1)</script>",
            (b"content-type", b"text/html"),
            (b"set-cookie", b"a=b"),
            (b"strict-transport-security", b"max-age=0"),
            (b"content-security-policy", b"default-src *"),
            (b"access-control-allow-origin", b"*"),
            (b"location", b"https://evil/"),
            (b"warning", b'299 - "kept"'),
            (b"audit-id", b"kept"),
            (b"content-encoding", b"identity"),
        )
        raw = (await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))).lower()
        for name in (b"set-cookie", b"strict-transport", b"access-control", b"location", b"default-src"):
            assert name not in raw
        for line_ in (b"x-content-type-options: nosniff", b"content-security-policy: sandbox", b"audit-id: kept"):
            assert line_ in raw
        assert b'warning: 299 - "kept"' in raw
        assert b"content-encoding: identity" in raw


INJECTIONS = [
    ((b"x", b"a\r\nset-cookie: b"),),
    ((b"x", b"a\nb"),),
    ((b"x\r\ny", b"a"),),
    ((b"X-Upper", b"a"),),
    ((b"", b"a"),),
    ((b"x", b"a\x00"),),
]


@pytest.mark.parametrize("fields", INJECTIONS, ids=range(len(INJECTIONS)))
async def test_response_head_injection(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        seen = await agent.next()
        await agent.inject(FrameType.HEAD, seen.stream.id, codec.encode(HttpHead(status=200, headers=fields)))
        assert rig.statuses_of(await client.rest()) in ([500], [503])
        client.close()


LENGTHS = [
    ((b"content-length", b"2"), (b"content-length", b"2")),
    ((b"content-length", b"-1"),),
    ((b"content-length", b"1, 1"),),
]


@pytest.mark.parametrize("fields", LENGTHS, ids=range(len(LENGTHS)))
async def test_ambiguous_lengths(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        seen = await agent.next()
        await agent.inject(FrameType.HEAD, seen.stream.id, codec.encode(HttpHead(status=200, headers=fields)))
        assert rig.statuses_of(await client.rest()) == [500]
        await seen.until(lambda seen: seen.code is not None)
        client.close()


async def test_framing_headers_of_a_cluster_are_not_ours() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        seen = await agent.next()
        fields = ((b"transfer-encoding", b"chunked"), (b"connection", b"x"), (b"content-length", b"2"))
        await agent.inject(FrameType.HEAD, seen.stream.id, codec.encode(HttpHead(status=200, headers=fields)))
        await agent.inject(FrameType.DATA, seen.stream.id, b"ok", end=True)
        raw = await client.rest()
        assert raw.count(b"transfer-encoding") + raw.count(b"content-length: 2") == 1 or rig.status_of(raw) == 500
        client.close()


async def illegal(
    line: rig.Line, agent: rig.ScriptedAgent, *frames: tuple[FrameType, bytes, bool]
) -> tuple[bytes, bool]:
    agent.script = lambda seen: None
    client = await line.connect()
    await client.send(rig.get(b"/k8s/clusters/c1/api", CLOSE))
    seen = await agent.next()
    for kind, payload, end in frames:
        await agent.inject(kind, seen.stream.id, payload, end=end)
    raw = await client.rest()
    client.close()
    return raw, client.is_broken


HEAD_FRAME = codec.encode(head(200, (b"content-length", b"5")))

ILLEGAL = [
    [(FrameType.DATA, b"body", False)],
    [(FrameType.DATA, b"", True)],
    [(FrameType.HEAD, HEAD_FRAME, False), (FrameType.HEAD, HEAD_FRAME, False)],
    [(FrameType.HEAD, HEAD_FRAME, False), (FrameType.DATA, b"hello!", True)],
    [(FrameType.HEAD, HEAD_FRAME, False), (FrameType.DATA, b"hell", True)],
    [(FrameType.HEAD, HEAD_FRAME, True)],
    [(FrameType.HEAD, codec.encode(head(103)), False)],
    [(FrameType.HEAD, codec.encode(head(204)), False), (FrameType.DATA, b"x", True)],
    [(FrameType.HEAD, b"\x80", False)],
    [(FrameType.HEAD, b"\xc1", False)],
]


@pytest.mark.parametrize("frames", ILLEGAL, ids=range(len(ILLEGAL)))
async def test_illegal_answers_are_never_whole(frames: list[tuple[FrameType, bytes, bool]]) -> None:
    """E12: an error of ours, or a transfer that is visibly broken; never a clean end."""
    async with rig.line() as line:
        agent = await line.add_agent()
        raw, is_broken = await illegal(line, agent, *frames)
        status = rig.status_of(raw)
        assert status in (500, 503, 504) or is_broken
        assert 502 not in rig.statuses_of(raw)


async def test_frames_for_streams_that_were_never_asked_for() -> None:
    """E11."""
    async with rig.line() as line:
        agent = await line.add_agent()
        for stream_id in (2000, 2001):
            await agent.inject(FrameType.DATA, stream_id, b"stray")
        assert rig.statuses_of(await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))) == [200]


async def test_a_body_cut_short_is_never_whole() -> None:
    """E14: agent dies in the middle of a chunked body and of one with a length."""
    for fields in ((), ((b"content-length", b"100"),)):
        async with rig.line() as line:
            agent = await line.add_agent()
            agent.script = lambda seen: None
            client = await line.connect()
            await client.send(rig.get())
            seen = await agent.next()
            seen.stream.head(head(200, *fields))
            seen.stream.send(b"half")
            assert rig.status_of(await client.head()) == 200
            await asyncio.sleep(0.02)
            agent.transport.abort()
            rest = await client.rest()
            assert client.is_broken
            assert not rest.endswith(b"0\r\n\r\n")
            client.close()


async def test_an_http_1_0_client_sees_a_cut_too() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get().replace(b"HTTP/1.1", b"HTTP/1.0"))
        seen = await agent.next()
        seen.stream.head(head(200))
        seen.stream.send(b"half")
        await client.head()
        seen.stream.reset(Code.UPSTREAM)
        await client.rest()
        assert client.is_broken
        client.close()


def body_of(raw: bytes) -> dict[str, object]:
    status: dict[str, object] = json.loads(raw.partition(b"\r\n\r\n")[2])
    return status


async def test_a_disconnected_cluster_answers_at_once() -> None:
    async with rig.line() as line:
        started = asyncio.get_running_loop().time()
        raw = await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        assert asyncio.get_running_loop().time() - started < 0.05 * room()
        assert rig.statuses_of(raw) == [503]
        assert b"retry-after" not in raw
        assert body_of(raw)["reason"] == "ServiceUnavailable"


async def test_retry_after_only_while_the_loss_is_fresh() -> None:
    """P2."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.transport.abort()
        await asyncio.sleep(0.02)
        assert b"retry-after: 1\r\n" in await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        lost = line.registry._lost.get("uid-c1")
        assert lost is not None
        line.registry._lost.note("uid-c1", (lost[0] - 30.0, lost[1]))
        assert b"retry-after" not in await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))


async def test_a_mutation_that_may_have_run_has_an_unknown_outcome() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: agent.transport.abort()
        raw = await line.ask(post(b"{}", CLOSE))
        assert rig.statuses_of(raw) == [504]
        assert b"retry-after" not in raw
        assert "outcome unknown" in str(body_of(raw)["message"])


async def test_a_mutation_that_may_have_run_is_never_sent_again() -> None:
    """P3: although a second tunnel is there."""
    async with rig.line() as line:
        first, second = await line.add_agent(), await line.add_agent()
        for agent in (first, second):
            agent.script = lambda seen: seen.stream.reset(Code.INTERNAL)
        assert rig.statuses_of(await line.ask(post(b"{}", CLOSE))) == [504]
        assert len(first.seen) + len(second.seen) == 1


async def test_a_lost_read_goes_to_the_next_tunnel() -> None:
    """E15."""
    async with rig.line() as line:
        agents = [await line.add_agent(), await line.add_agent()]
        died: list[Seen] = []

        def die_once(seen: Seen) -> None:
            if died:
                seen.answer()
                return
            died.append(seen)
            next(agent for agent in agents if seen in agent.seen).transport.abort()

        for agent in agents:
            agent.script = die_once
        assert rig.statuses_of(await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))) == [200]
        assert len(died) == 1


@pytest.mark.parametrize("code", [Code.REFUSED, Code.DRAINING])
async def test_what_was_not_executed_goes_to_the_next_tunnel(code: Code) -> None:
    async with rig.line() as line:
        agents = [await line.add_agent(), await line.add_agent()]
        refused: list[Seen] = []

        def refuse_once(seen: Seen) -> None:
            if refused:
                seen.answer(201)
            else:
                refused.append(seen)
                seen.stream.reset(code)

        for agent in agents:
            agent.script = refuse_once
        raw = await line.ask(post().replace(b"Content-Length: 2\r\n\r\n{}", b"Connection: close\r\n\r\n"))
        assert rig.statuses_of(raw) == [201]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code.DIAL_REFUSED, 503),
        (Code.DIAL_DNS, 503),
        (Code.DIAL_UNREACHABLE, 503),
        (Code.KUBE_UNAUTHORIZED, 503),
        (Code.DIAL_TIMEOUT, 504),
        (Code.FORBIDDEN, 403),
        (Code.TOO_BIG, 413),
        (Code.UPSTREAM, 503),
        (Code.OVERLOADED, 429),
        (Code.INTERNAL, 500),
    ],
)
async def test_codes_become_statuses(code: Code, expected: int) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.reset(code, "CANARY text of an agent")
        raw = await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))
        assert rig.statuses_of(raw) == [expected]
        assert b"CANARY" not in raw


async def test_each_watch_event_is_flushed_alone() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.head(head(200, JSON))
        client = await line.connect()
        await client.send(rig.get(WATCH))
        assert b"transfer-encoding: chunked" in await client.head()
        seen = agent.seen[0]
        for event in (b'{"a":1}\n', b'{"b":2}\n'):
            seen.stream.send(event)
            assert await client.exactly(13) == b"8\r\n" + event + b"\r\n"
        client.close()
        await seen.until(lambda seen: seen.code is Code.CANCELLED)


@pytest.mark.parametrize(("event", "is_clean"), [(b'{"a":1}\n', True), (b'{"a":', False)])
async def test_a_watch_is_cut_cleanly_only_between_events(event: bytes, is_clean: bool) -> None:
    """P11."""
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.head(head(200, JSON))
        client = await line.connect()
        await client.send(rig.get(WATCH))
        await client.head()
        agent.seen[0].stream.send(event)
        await client.exactly(len(b"%x\r\n%b\r\n" % (len(event), event)))
        assert line.relay.cut(cluster_uid="uid-c1") == 1
        if is_clean:
            assert await client.exactly(5) == b"0\r\n\r\n"
        else:
            await client.rest()
            assert client.is_broken
        client.close()


async def test_a_drain_lets_a_watch_finish_its_event() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.head(head(200, JSON))
        client = await line.connect()
        await client.send(rig.get(WATCH, CLOSE))
        await client.head()
        agent.seen[0].stream.send(b'{"a":')
        await client.exactly(len(b'5\r\n{"a":\r\n'))
        line.relay.drain()
        assert line.relay.live == 1
        agent.seen[0].stream.send(b"1}\n")
        assert await client.rest() == b"3\r\n1}\n\r\n0\r\n\r\n"
        assert line.relay.live == 0
        client.close()


async def test_a_removed_grant_ends_what_is_under_way() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.head(head(200, JSON))
        client = await line.connect()
        await client.send(rig.get(WATCH))
        await client.head()
        assert line.relay.recheck() == 0
        line.authorizer.denied.add("alice")
        assert line.relay.recheck() == 1
        assert await client.exactly(5) == b"0\r\n\r\n"
        client.close()


async def test_a_client_that_leaves_cancels_at_once() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: None
        client = await line.connect()
        await client.send(rig.get())
        seen = await agent.next()
        client.close()
        await seen.until(lambda seen: seen.code is Code.CANCELLED, 0.5)
        assert line.relay.live == 0


async def test_a_slow_reader_is_waited_for_within_bounds() -> None:
    """E16, P11: its stream stops, the rest goes on, nothing is cut."""
    async with rig.line() as line:
        agent = await line.add_agent()
        total = 24_000_000
        agent.script = lambda seen: None
        client = await line.connect()
        client.writer.transport.pause_reading()
        await client.send(rig.get())
        slow = await agent.next()
        slow.stream.head(head(200, (b"content-length", b"%d" % total)))
        for _ in range(total // 65_536):  # more than the kernel's buffers hold
            slow.stream.send(bytes(65_536))
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        agent.script = rig.answer_ok
        assert rig.statuses_of(await line.ask(rig.get(b"/k8s/clusters/c1/api", CLOSE))) == [200]
        assert slow.stream.queued_bytes > 0
        assert line.relay.live == 1
        client.close()
        await slow.until(lambda seen: seen.code is Code.CANCELLED)


async def test_a_large_body_both_ways_is_intact() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        body = bytes(range(256)) * 20_000

        async def echo(seen: Seen) -> None:
            await seen.until(lambda seen: seen.is_ended, 10.0)
            seen.stream.head(head(200))
            seen.stream.send(bytes(seen.body), end=True)

        agent.script = lambda seen: line.tasks.spawn(echo(seen), name="echo") and None
        client = await line.connect()
        sending = line.tasks.spawn(client.send(post(body)), name="send")
        assert b"transfer-encoding: chunked" in await client.head(10.0)
        got = bytearray()
        while size := int((await client.reader.readuntil(b"\r\n"))[:-2], 16):
            got += await client.exactly(size)
            await client.exactly(2)
        assert bytes(got) == body
        await sending
        client.close()


async def test_head_and_bodiless_answers() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.stream.head(head(200, (b"content-length", b"7")), end=True)
        client = await line.connect()
        await client.send(rig.get().replace(b"GET", b"HEAD", 1))
        assert b"content-length: 7" in await client.head()
        agent.script = lambda seen: seen.stream.head(head(304), end=True)
        await client.send(rig.get())
        raw = await client.head()
        assert rig.status_of(raw) == 304
        assert b"chunked" not in raw
        agent.script = rig.answer_ok
        await client.send(rig.get())
        assert (await client.response()).endswith(b"ok")
        client.close()
