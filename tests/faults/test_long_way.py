"""R6: agents behind 300 ms of round trip that loses one packet in a hundred, and a download that fills the way.

No session may end, and a small read must not wait for the download: neither on the tunnel of another replica, which
shares the way with it, nor on the same tunnel.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests import harness
from tests.e2e import measures
from tests.faults import figures
from tests.faults.place import Place, obstacle, place
from tests.faults.rig import Answer, Client, FaultCluster, Replica, fault_cluster
from tests.harness.runs import Run

SECONDS = figures.number("LONG_WAY_SECONDS", 120)
"""`make faults` takes 30 minutes: counters that grow, rare rows of losses."""

pytestmark = [pytest.mark.timeout(120 + SECONDS)]

BY = os.environ.get(f"{figures.PREFIX}BY") or ("fault proxy" if obstacle() else "TUN")

ONE_WAY_S = 0.15
LOSS = 0.01
RATE = 500_000
"""Bytes a second: 4 Mbit/s, so that the download keeps the way full."""
QUEUE_BYTES = 150_000
"""Before the narrowest place: what is under way in one round trip, as routers are built."""
SMALL_BYTES = 10_000
READ_P99_S = 1.5
MOVED = 0.1
"""Of the rate: below that the download fills nothing."""
READERS = 2
WATCHES = 32
PAUSE_S = 0.2


@dataclass
class Row:
    """What one cluster has shown."""

    reads: list[float]
    bulk_bytes: int
    ended_sessions: int
    served: dict[str, int]
    beside: float
    """Share of the reads that went by another tunnel than the download."""


@contextlib.asynccontextmanager
async def far_away(seed: int) -> AsyncIterator[Place]:
    """A place whose hub is far."""
    async with place() as made:
        log = Run.current().subdirectory("tunlink") / "tunlink.log"
        weather = {"latency_s": ONE_WAY_S, "loss": LOSS, "rate": RATE, "queue_bytes": QUEUE_BYTES, "seed": seed}
        await made.lengthen(log, **weather)
        yield made


def tunnel(headers: Mapping[str, str]) -> str:
    """By which an answer came."""
    return headers["Riata-Route"].partition(";")[0]


@dataclass
class Download:
    """Big answers, one after the other."""

    bytes_read: int = 0
    tunnels: set[str] = field(default_factory=set)

    async def run(self, client: Client) -> None:
        """Until it is cancelled."""
        url = f"{client.base}/api/v1/namespaces/faults/pods/x/log?id=bulk&size=1000000000"
        while True:
            async with client.session.get(url, timeout=aiohttp.ClientTimeout()) as answer:
                assert answer.status == 200
                self.tunnels.add(tunnel(answer.headers))
                async for piece in answer.content.iter_any():
                    self.bytes_read += len(piece)


async def watches(stack: contextlib.AsyncExitStack, client: Client) -> None:
    """As many that stay open as make the hub prefer another cluster agent: by the round trip alone the two are alike
    where they share the way."""
    url = f"{client.base}/api/v1/namespaces/faults/configmaps?watch=1&every=20"
    for _ in range(WATCHES):
        answer = await stack.enter_async_context(client.session.get(url, timeout=aiohttp.ClientTimeout()))
        assert answer.status == 200


async def read(client: Client, name: str, until: float) -> list[Answer]:
    taken = []
    while time.monotonic() < until:
        answer = await client.ask("GET", f"id={name}&size={SMALL_BYTES}")
        assert answer.is_whole(SMALL_BYTES), answer
        taken.append(answer)
        await asyncio.sleep(PAUSE_S)
    return taken


async def one_cluster(hub: harness.Hub, name: str, there: Place | None, replicas: int, seed: int) -> Row:
    hosts = [there.near_host] if there is not None else []
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(fault_cluster(hub, name, seed=seed, hosts=hosts))
        agents = [await far_agent(stack, cluster, f"{name}-0", there)]
        client = await stack.enter_async_context(cluster.client())
        bulk = Download()
        async with asyncio.TaskGroup() as group:
            downloading = group.create_task(bulk.run(client))
            if replicas > 1:
                await watches(stack, client)
            agents += [await far_agent(stack, cluster, f"{name}-{number}", there) for number in range(1, replicas)]
            before, until = bulk.bytes_read, time.monotonic() + SECONDS
            small = [group.create_task(read(client, f"small-{number}", until)) for number in range(READERS)]
            await asyncio.wait(small)
            total = bulk.bytes_read - before
            downloading.cancel()
        ended = 0
        for agent in agents:
            page = await agent.page()
            ended += int(page["riata_agent_sessions_total"]) - 1
        reads = [each for task in small for each in task.result()]
        beside = sum(tunnel(each.headers) not in bulk.tunnels for each in reads) / len(reads)
        return Row([each.seconds for each in reads], total, ended, dict(cluster.stub.served), beside)


async def far_agent(stack: contextlib.AsyncExitStack, cluster: FaultCluster, name: str, there: Place | None) -> Replica:
    agent = await stack.enter_async_context(cluster.replica(name, there=there))
    if there is None:
        for weather in agent.proxy.weather.values():
            weather.latency_s, weather.rate, weather.queue_bytes = ONE_WAY_S, RATE, QUEUE_BYTES
            weather.loss, weather.repair_s = LOSS, 2 * ONE_WAY_S  # sent again as soon as the receiver's word is back
    return agent


async def test_a_long_lossy_way_ends_no_session_and_a_download_delays_no_read() -> None:
    """By TUN where root allows it, below TCP; else by the fault proxy, where each agent has a way of its own."""
    seed = figures.seed()
    async with contextlib.AsyncExitStack() as stack:
        places: list[Place | None] = [None, None]
        if BY == "TUN":
            places = [await stack.enter_async_context(far_away(seed + number)) for number in range(2)]
        listen = [there.far_host for there in places if there is not None]
        hub = await stack.enter_async_context(harness.hub(listen=listen))
        same, other = places
        rows = await asyncio.gather(
            one_cluster(hub, "same-tunnel", same, 1, seed), one_cluster(hub, "other-tunnel", other, 2, seed)
        )
    for name, row in zip(("same tunnel", "other tunnel"), rows, strict=True):
        figures.show(f"R6 {name}", seed, by=BY, **shown(row))
    assert rows[1].beside > 0.5, "the reads went by the same tunnel as the download"
    for row in rows:
        assert row.ended_sessions == 0
        assert row.bulk_bytes >= MOVED * RATE * SECONDS, "the download stood still"
        assert measures.quantile(row.reads, 0.99) <= READ_P99_S * figures.room()


def shown(row: Row) -> dict[str, Any]:
    return {
        "seconds": SECONDS,
        "ended_sessions": row.ended_sessions,
        "reads": measures.shown(row.reads),
        "read_p99_s": measures.quantile(row.reads, 0.99),
        "download_share_of_rate": row.bulk_bytes / SECONDS / RATE,
        "served": row.served,
        "beside_the_download": row.beside,
    }
