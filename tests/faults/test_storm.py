"""R12: the hub dies, and all its agents come back at once; R2: how soon a hub with many clusters serves."""

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest

from hub.clock import wall_clock
from hub.clusters.records import Clusters
from hub.store.sqlite import FILE_NAME, SqliteStore
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
READY_S = 2.0
BATCH = 200
"""Written at once, in one commit."""
DATA = "hub"

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


async def test_agents_come_back_from_a_killed_hub_in_a_storm_that_others_survive() -> None:
    seed = figures.seed()
    async with a_hub() as hub:
        tokens = await fleet.register(hub, CLUSTERS)
        async with fleet.connected(hub, tokens) as agents:
            await hub.kill()
            started_s = await hub.start()
            async with probe.probing(hub) as seen:
                last_at, attempts = await agents.all_back()
    found = seen.figures()
    figures.show(
        "R12",
        seed,
        agents=CLUSTERS * fleet.PER_CLUSTER,
        hub_started_in_s=started_s,
        all_back_after_s=last_at - hub.listens_at,
        attempts_max=attempts,
        loop_lag_p99_ms=found["loop lag p99 ms"],
        admin_get_p99_ms=found["admin GET p99 ms"],
        admin_gets_failed=int(found["admin GETs failed"]),
    )
    assert last_at - hub.listens_at <= BACK_S * figures.room()
    assert attempts <= ATTEMPTS
    assert found["loop lag p99 ms"] <= LAG_S * 1e3 * figures.room()
    assert found["admin GET p99 ms"] <= ADMIN_GET_S * 1e3 * figures.room()
    assert not found["admin GETs failed"]


async def test_a_hub_with_many_clusters_is_soon_ready() -> None:
    seed = figures.seed()
    async with a_hub() as hub:
        await hub.kill()
        store = await SqliteStore.open(hub.directory / DATA / FILE_NAME)
        clusters = Clusters(store, wall_clock)
        for batch in range(0, REGISTERED, BATCH):
            names = (f"many-{number}" for number in range(batch, min(batch + BATCH, REGISTERED)))
            await asyncio.gather(*(clusters.create(name=name, labels={}, created_by="test") for name in names))
        await store.close()
        ready_s = await hub.start()
        assert (await hub.call("GET", f"/v1/clusters/many-{REGISTERED - 1}"))["name"] == f"many-{REGISTERED - 1}"
    figures.show("R2", seed, clusters=REGISTERED, ready_after_s=ready_s)
    assert ready_s <= READY_S * figures.room()


@contextlib.asynccontextmanager
async def a_hub():  # type: ignore[no-untyped-def] # an async iterator of Hub
    """A hub in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="riata-storm-") as name:
        hub: Hub = await fleet_hub(Path(name) / "hub")
        try:
            yield hub
        finally:
            await hub.stop()
