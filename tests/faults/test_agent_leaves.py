"""An agent is told to go (SIGTERM): what is under way finishes, long streams have its grace and no more, and a second
signal ends it at once."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio

from proto.aio.tasks import TaskGroup
from tests import harness
from tests.faults import figures
from tests.faults.rig import Client, FaultCluster, fault_cluster
from tests.harness.children import until

GRACE_S = 3.0
SHORT_S = 1.0
"""A request that is under way at the signal, and how long it takes."""
EVERY_S = 0.1
LOG = "/api/v1/namespaces/faults/pods/p/log"
WATCH = "/api/v1/namespaces/faults/configmaps"
KILLED_BY_SIGTERM = 128 + signal.SIGTERM

pytestmark = [pytest.mark.alone, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[FaultCluster]:
    async with harness.hub() as hub, fault_cluster(hub, "left", seed=figures.seed()) as cluster:
        yield cluster


@dataclass
class Stream:
    """An answer without end, as its client sees it."""

    lines: list[bytes] = field(default_factory=list)
    moved_at: float = 0.0
    ended_at: float = 0.0
    error: str = ""
    """How it broke; empty for an end that the client takes for one."""

    async def read(self, client: Client, path: str, query: str) -> None:
        async with client.session.get(f"{client.base}{path}?{query}&every={EVERY_S}") as response:
            assert response.status == 200
            with contextlib.suppress(aiohttp.ClientError):
                self.error = "broken"
                async for line in response.content:
                    self.lines.append(line)
                    self.moved_at = time.monotonic()
                self.error = ""
        self.ended_at = time.monotonic()


@pytest.mark.parametrize("mode", ["cluster", "node"])
async def test_an_agent_that_is_told_to_go_gives_long_streams_its_grace(cluster: FaultCluster, mode: str) -> None:
    grace = ("--drain-grace", f"{GRACE_S:g}")
    log, watch = Stream(), Stream()
    async with (
        cluster.replica(f"leaving-{mode}", mode=mode, more=grace) as agent,
        cluster.client() as client,
        TaskGroup("clients") as group,
    ):
        group.spawn(log.read(client, LOG, "follow=true"), name="log")
        group.spawn(watch.read(client, WATCH, "watch=1"), name="watch")
        await until(lambda: log.lines and watch.lines, what="two streams that move", timeout_s=20)
        short = group.spawn(client.ask("GET", f"id={mode}&delay={SHORT_S}&size=1000"), name="short")
        await until(lambda: cluster.stub.asked[mode], what="a request under way", timeout_s=20)
        told_at = time.monotonic()
        agent.send(signal.SIGTERM)
        assert (await short).is_whole(1000), "what was under way finishes"
        await asyncio.sleep(told_at + GRACE_S - 1 - time.monotonic())
        assert not log.ended_at
        assert time.monotonic() - log.moved_at < 1, "and a long stream moves"
        assert agent.child is not None
        code = await agent.child.wait(GRACE_S + 10)
        exit_s = time.monotonic() - told_at
        await until(lambda: log.ended_at and watch.ended_at, what="two ends", timeout_s=10)
    watch_s, log_s = watch.ended_at - told_at, log.ended_at - told_at
    figures.show(
        f"{mode} agent told to go",
        cluster.seed,
        grace_s=GRACE_S,
        watch_s=watch_s,
        log_s=log_s,
        exit_s=exit_s,
        code=code,
    )
    assert code == 0
    assert not watch.error, "a watch ends cleanly between two events, and goes on elsewhere"
    assert all(json.loads(line) for line in watch.lines)
    assert watch_s < 0.5 * figures.room()
    assert log.error, "nobody takes a cut log for the whole"
    assert GRACE_S - 0.05 <= log_s < GRACE_S + 0.5 * figures.room()
    assert exit_s < GRACE_S + 0.7 * figures.room()


@pytest.mark.parametrize("mode", ["cluster", "node"])
async def test_a_second_signal_ends_an_agent_at_once(cluster: FaultCluster, mode: str) -> None:
    log = Stream()
    async with (
        cluster.replica(f"told-twice-{mode}", mode=mode) as agent,
        cluster.client() as client,
        TaskGroup("clients") as group,
    ):
        group.spawn(log.read(client, LOG, "follow=true"), name="log")
        await until(lambda: log.lines, what="a stream that moves", timeout_s=20)
        agent.send(signal.SIGTERM)
        at = len(log.lines)
        await until(lambda: len(log.lines) > at + 5, what="a stream that moves on", timeout_s=20)
        assert agent.child is not None
        assert agent.child.returncode is None, "its grace is 25 s"
        again_at = time.monotonic()
        agent.send(signal.SIGTERM)
        code = await agent.child.wait(10)
        exit_s = time.monotonic() - again_at
        await until(lambda: log.ended_at, what="the end of the stream", timeout_s=10)
    figures.show(f"{mode} agent, second signal", cluster.seed, exit_s=exit_s, code=code)
    assert code == KILLED_BY_SIGTERM
    assert log.error
    assert exit_s < 0.3 * figures.room()
