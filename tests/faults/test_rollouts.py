"""Rollouts of the agents and restarts of the hub under traffic: nobody's request fails for the first, and for the
second it is refused or told to come back, never answered wrongly or in part."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests import harness
from tests.faults import figures
from tests.faults.rig import FaultCluster, Replica, fault_cluster
from tests.faults.traffic import Traffic, counting, traffic
from tests.harness.children import until

ROLLOUTS = int(figures.number("ROLLOUTS", 2))
PER_S = 200.0
REACHED_PER_S = 150.0
BACK_S = 3.0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180 + ROLLOUTS * 40)]


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[FaultCluster]:
    async with harness.hub() as hub, fault_cluster(hub, "rolled", seed=figures.seed()) as cluster:
        yield cluster


async def test_rollouts_of_the_agents_fail_no_request(cluster: FaultCluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await enter(stack, cluster, f"old-{number}") for number in range(2)]
        async with traffic(cluster, PER_S) as seen:
            for number in range(ROLLOUTS):
                for place, old in enumerate(replicas):
                    replicas[place] = await enter(stack, cluster, f"new-{number}-{place}")
                    await old.stop()
                    assert old.child is not None
                    assert await old.child.wait(0) == 0, "an agent that was told to end says that it ended in order"
    show("agent rollouts", seen, cluster, rollouts=ROLLOUTS)
    assert seen.count("whole") == seen.total, seen.odd
    assert not seen.repeated.total(), "a connection to the hub, which stays, broke"
    assert seen.per_s >= REACHED_PER_S / figures.room()
    assert cluster.stub.more_than_once() == {}


async def test_what_aiohttp_repeats_by_itself_is_counted() -> None:
    """A server that takes a request and closes: the read is repeated, the change is not."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    seen = Traffic(0)
    server = await asyncio.start_server(close, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, aiohttp.ClientSession(trace_configs=[counting(seen, "fresh")]) as session:
        for method, repeated in (("POST", 0), ("GET", 1)):
            with pytest.raises(aiohttp.ClientError):
                await session.request(method, f"http://{host}:{port}/")
            assert seen.repeated["fresh"] == repeated


async def enter(stack: contextlib.AsyncExitStack, cluster: FaultCluster, name: str) -> Replica:
    """A new pod of the Deployment: its tunnel is up."""
    return await stack.enter_async_context(cluster.replica(name))


async def test_restarts_of_the_hub_answer_nothing_wrongly_and_are_soon_over(cluster: FaultCluster) -> None:
    back, stopping = [], []
    async with cluster.replica("one"), cluster.replica("two"), traffic(cluster, PER_S) as seen:
        for _ in range(ROLLOUTS):
            told_at = time.monotonic()
            await cluster.hub.stop()
            stopping.append(time.monotonic() - told_at)
            assert await cluster.hub.child.wait(0) == 0
            await cluster.hub.restart()
            listens_at = time.monotonic()
            await cluster.connected(within_s=10)
            await until(lambda at=listens_at: seen.since(at) < 60, what="an answer", timeout_s=30)  # type: ignore[misc]
            back.append(max(time.monotonic() - listens_at, seen.since(listens_at)))
    show("hub restarts", seen, cluster, restarts=ROLLOUTS, back_after_max_s=max(back), stopped_in_max_s=max(stopping))
    assert seen.count("whole", "503", "refused") == seen.total, seen.odd
    assert not seen.repeated["fresh"], "a connection that had just begun broke, and aiohttp hid it"
    assert seen.repeated["kept"] <= seen.total / 100, "more than a race with what is closed while it is idle"
    assert seen.per_s >= REACHED_PER_S / figures.room()
    assert cluster.stub.more_than_once() == {}
    assert max(back) <= BACK_S * figures.room()


def show(row: str, seen: Traffic, cluster: FaultCluster, **more: float) -> None:
    figures.show(
        row,
        cluster.seed,
        **more,
        requests=seen.total,
        per_s=seen.per_s,
        repeated_on_kept=seen.repeated["kept"],
        repeated_on_fresh=seen.repeated["fresh"],
        whole=seen.count("whole"),
        refused=seen.count("refused"),
        told_503=seen.count("503"),
        otherwise=seen.total - seen.count("whole", "503", "refused"),
        executed_twice=len(cluster.stub.more_than_once()),
    )
