"""Compressed bodies of a compromised agent: what they cost the hub and its other users (facts/security.md B16)."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc

from proto.aio.tasks import TaskGroup
from proto.compression import BLOCK_MAX_BYTES
from proto.compressor import Compressor
from proto.errors import Code
from proto.messages import HttpHead
from tests.proto.bodies import block, event, runs
from tests.room import room
from tests.security import rig
from tests.security.rig import Seen

BOMB = block(1, BLOCK_MAX_BYTES, runs(BLOCK_MAX_BYTES))
HEAD = HttpHead(status=200, headers=((b"content-type", b"application/json"),), ext={"zstd": 1})
LIST = b"/k8s/clusters/c1/api/v1/pods"


def answers(*pieces: bytes, ends: bool = True) -> rig.Callable[[Seen], None]:
    """A script that answers GETs of pods with these bytes of DATA, and all else at once."""

    def script(seen: Seen) -> None:
        if seen.request.path != b"/api/v1/pods":
            seen.answer()
            return
        seen.stream.head(HEAD)
        for piece in pieces:
            seen.stream.send(piece)
        if ends:
            seen.stream.end()

    return script


class Stalls:
    """The longest time in which the loop did nothing else."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.worst_s, last = max(self.worst_s, now - last), now


async def test_a_bomb_for_a_client_that_does_not_read_is_held_compressed() -> None:
    async with rig.line() as line:
        agent = await line.add_agent(compresses=True)
        agent.script = answers(BOMB * 20_000)  # 240 KB that become 2.6 GB
        client = await line.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's selector transport has it
        tracemalloc.start()
        await client.send(rig.get(LIST))
        await agent.next()
        await asyncio.sleep(0.2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * 1024 * 1024
        assert rig.status_of(await line.ask(rig.get(b"/k8s/clusters/c1/version", b"Connection: close\r\n"))) == 200
        client.close()
        await asyncio.sleep(0.05)
        assert line.relay.histories.bodies == 0


async def read_away(client: rig.Client) -> None:
    while await client.reader.read(1 << 20):
        pass


async def test_a_bomb_for_a_client_that_reads_delays_nobody() -> None:
    async with rig.line() as line, TaskGroup("readers") as group:
        agent = await line.add_agent(compresses=True)
        agent.script = answers(BOMB * 20_000)
        greedy = [await line.connect() for _ in range(4)]
        for number, client in enumerate(greedy):
            await client.send(rig.get(LIST))
            group.spawn(read_away(client), name=f"reader {number}")
        await agent.next(4)
        stalls = Stalls()
        group.spawn(stalls.watch(), name="stalls")
        waits = []
        for _ in range(20):
            began = time.perf_counter()
            raw = await line.ask(rig.get(b"/k8s/clusters/c1/version", b"Connection: close\r\n"))
            waits.append(time.perf_counter() - began)
            assert rig.status_of(raw) == 200
        assert line.relay.histories.bodies == 4  # still at it
        await group.aclose()
        for client in greedy:
            client.close()
        print(f"\nbeside four bombs: GET {max(waits) * 1e3:.1f} ms at most, the loop {stalls.worst_s * 1e3:.1f} ms")
        assert sorted(waits)[10] < 0.1 * room()
        assert stalls.worst_s < 0.5 * room()  # on a busy machine; one message decoded whole would take longer


async def test_broken_blocks_end_their_own_streams_and_nothing_else() -> None:
    async with rig.line() as line:
        agent = await line.add_agent(compresses=True)
        noise = os.urandom(64)
        for junk in (noise, block(1, 1000, noise), block(2, 1000, runs(999)), block(0, 5, b"1234"), BOMB[:-1]):
            agent.script = answers(junk)
            number = len(agent.seen) + 1
            client = await line.connect()
            await client.send(rig.get(LIST, b"Connection: close\r\n"))
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            await agent.next(number)
        agent.script = answers()
        assert rig.status_of(await line.ask(rig.get(b"/k8s/clusters/c1/version", b"Connection: close\r\n"))) == 200
        assert line.relay.histories.bodies == 0


async def test_a_compressed_answer_that_nobody_agreed_to_is_an_error() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = answers(BOMB, ends=False)
        raw = await line.ask(rig.get(LIST, b"Connection: close\r\n"))
        assert rig.status_of(raw) == 500
        await (await agent.next()).until(lambda seen: seen.code is Code.PROTOCOL)


async def test_a_broken_block_is_told_to_its_agent() -> None:
    async with rig.line() as line:
        agent = await line.add_agent(compresses=True)
        agent.script = answers(block(1, 1000, runs(999)), ends=False)
        await line.ask(rig.get(LIST, b"Connection: close\r\n"))
        await (await agent.next()).until(lambda seen: seen.code is Code.PROTOCOL)


async def test_an_honest_answer_arrives_whole() -> None:
    async with rig.line() as line:
        agent = await line.add_agent(compresses=True)
        events = [event(number) for number in range(100)]
        compressor = Compressor(256 * 1024)
        agent.script = answers(*(each for one in events for each in compressor.encode(one)))
        raw = await line.ask(rig.get(LIST, b"Connection: close\r\n"))
        rest, body = raw.partition(b"\r\n\r\n")[2], b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        assert body == b"".join(events)
