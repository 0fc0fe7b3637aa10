"""R12: the hub dies, and all its agents come back at once, or after a while; R2: how soon a hub with many clusters
serves; and what an idle tunnel costs it."""

import asyncio
import contextlib
import os
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.bench import processes
from tests.bench.processes import CORES
from tests.bench.scale import fleet, probe
from tests.bench.scale.hub import Hub
from tests.bench.scale.steps import fleet_hub
from tests.faults import figures

CLUSTERS = int(figures.number("STORM_CLUSTERS", 60))
"""Of five agents each; as many as the machine carries: 1,000 in `make faults`."""
REGISTERED = int(figures.number("REGISTERED", 5_000))
BACK_S = 20.0
ATTEMPTS = 3
LAG_S = 0.1
ADMIN_GET_S = 0.5
ROOM_MAX = 10.0
READY_S = 2.0
IDLE_CLUSTERS = int(figures.number("IDLE_CLUSTERS", 60))
"""Whose tunnels are weighed; as much again is there before. 200 in `make faults`."""
IDLE_KIB = 45.0
SETTLED_S = 1.5
FEW_CLUSTERS = 20
DOWN_S = 8.0
"""With the start of the hub an outage of nine seconds."""
OUTAGE_S = 10.0
FEW_BACK_S = 3.0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


async def test_agents_come_back_from_a_killed_hub_in_a_storm_that_others_survive() -> None:
    seed = figures.seed()
    async with a_hub() as hub:
        await hub.kill()
        hub.has_core = True
        shown = await fleet.enrol(hub, CLUSTERS)
        await hub.start()
        async with fleet.connected(hub, shown) as agents:
            await hub.kill()
            started_s = await hub.start()
            spent_s = processes.cpu_seconds(hub.pid)
            async with probe.probing(hub) as seen:
                last_at, attempts = await agents.all_back()
            spent_s = processes.cpu_seconds(hub.pid) - spent_s
    found, back_s = seen.figures(), last_at - hub.listens_at
    figures.show(
        "R12",
        seed,
        agents=CLUSTERS * fleet.PER_CLUSTER,
        generators=len(agents),
        cores=CORES,
        hub_started_in_s=started_s,
        all_back_after_s=back_s,
        hub_cpu_s=spent_s,
        attempts_max=attempts,
        loop_lag_p99_ms=found["loop lag p99 ms"],
        admin_get_p99_ms=found["admin GET p99 ms"],
        admin_gets=len(seen.gets),
        admin_gets_failed=int(found["admin GETs failed"]),
    )
    room = room_beside_others(back_s, spent_s)
    assert back_s <= BACK_S * room
    assert attempts <= ATTEMPTS
    assert found["loop lag p99 ms"] <= LAG_S * 1e3 * room
    assert found["admin GET p99 ms"] <= ADMIN_GET_S * 1e3 * room
    assert not found["admin GETs failed"]


def room_beside_others(wall_s: float, cpu_s: float) -> float:
    """Within `make test` a hub that waits for a core as long as it has one is late for everybody by as much: twice what
    the storm took over what the hub worked, to a limit behind which nothing would be shown."""
    return figures.room() if figures.room() == 1 else max(figures.room(), min(2 * wall_s / cpu_s, ROOM_MAX))


async def test_after_ten_seconds_without_a_hub_a_hundred_agents_are_soon_back() -> None:
    """Their back-off has grown meanwhile, and they know nothing of the hub's start."""
    seed = figures.seed()
    async with a_hub() as hub:
        await hub.kill()
        shown = await fleet.enrol(hub, FEW_CLUSTERS)
        await hub.start()
        async with fleet.connected(hub, shown) as agents:
            killed_at = time.monotonic()
            await hub.kill()
            await asyncio.sleep(DOWN_S)
            await hub.start()
            last_at, attempts = await agents.all_back()
            began = time.monotonic()
            answered = await reads(hub, FEW_CLUSTERS)
            read_s = time.monotonic() - began
    outage_s, back_s = hub.listens_at - killed_at, last_at - hub.listens_at
    figures.show(
        "hub away",
        seed,
        agents=FEW_CLUSTERS * fleet.PER_CLUSTER,
        outage_s=outage_s,
        all_back_after_s=back_s,
        attempts_max=attempts,
        clusters_that_answer=answered,
        a_read_of_each_s=read_s,
    )
    assert DOWN_S <= outage_s <= OUTAGE_S * figures.room()
    assert back_s + read_s <= FEW_BACK_S * figures.room()
    assert answered == FEW_CLUSTERS


async def reads(hub: Hub, clusters: int) -> int:
    """How many clusters answer a read, all asked at once."""
    context = ssl.create_default_context(cafile=str(hub.ca))
    headers = {"Authorization": f"Bearer {hub.admin.read_text().strip()}"}
    connector = aiohttp.TCPConnector(ssl=context, limit=0)

    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one(number: int) -> bool:
            url = f"{hub.url}/k8s/clusters/{fleet.cluster(number)}/api/v1/namespaces/x/configmaps/small"
            async with session.get(url) as answer:
                return answer.status == 200 and bool(await answer.read())

        return sum(await asyncio.gather(*map(one, range(clusters))))


async def test_an_idle_tunnel_costs_the_hub_little() -> None:
    """What each one more costs, beside as many that have paid for what all share; without what the allocator holds
    free, since a busy machine has more handshakes under way at once, which leave holes of some MiB."""
    seed = figures.seed()
    async with a_hub(Trimmed) as hub:
        await hub.kill()
        shown = await fleet.enrol(hub, 2 * IDLE_CLUSTERS)
        await hub.start()
        bare, _ = await weighed(hub)
        async with fleet.connected(hub, shown[:IDLE_CLUSTERS]):
            before, resident_before = await weighed(hub)
            async with fleet.connected(hub, shown[IDLE_CLUSTERS:], "more-agents"):
                after, resident_after = await weighed(hub)
    tunnels = IDLE_CLUSTERS * fleet.PER_CLUSTER
    each_kib = (after - before) / tunnels
    figures.show(
        "idle tunnels",
        seed,
        tunnels=2 * tunnels,
        hub_without_mib=bare / 1024,
        first_half_kib_each=(before - bare) / tunnels,
        second_half_kib_each=each_kib,
        with_free_memory_kib_each=(resident_after - resident_before) / tunnels,
    )
    assert 0 < each_kib <= IDLE_KIB


class Trimmed(Hub):
    """Gives back free memory at SIGUSR1."""

    def command(self, listen: str) -> list[str]:
        _, *options = super().command(listen)
        return [sys.executable, "-m", "tests.faults.trimmed", *options]


async def weighed(hub: Hub) -> tuple[float, float]:
    """KiB in use, and resident before what is free was given back."""
    await asyncio.sleep(SETTLED_S)
    resident = hub.mebibytes()
    os.kill(hub.pid, signal.SIGUSR1)
    await asyncio.sleep(SETTLED_S)
    return hub.mebibytes() * 1024, resident * 1024


async def test_a_hub_with_many_clusters_is_soon_ready() -> None:
    seed = figures.seed()
    async with a_hub() as hub:
        await hub.kill()
        await fleet.enrol(hub, REGISTERED)
        ready_s = await hub.start()
        last = fleet.cluster(REGISTERED - 1)
        assert (await hub.call("GET", f"/v1/clusters/{last}"))["name"] == last
    figures.show("R2", seed, clusters=REGISTERED, ready_after_s=ready_s)
    assert ready_s <= READY_S * figures.room()


@contextlib.asynccontextmanager
async def a_hub(kind: type[Hub] = Hub) -> AsyncIterator[Hub]:
    """A hub in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="riata-storm-") as name:
        hub = await fleet_hub(Path(name) / "hub", kind)
        try:
            yield hub
        finally:
            await hub.stop()
