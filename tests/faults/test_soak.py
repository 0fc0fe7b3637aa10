"""R23: traffic, killed agents and broken connections for a while; afterwards everything is as it was, exactly."""

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from tests import harness
from tests.e2e import measures
from tests.faults import figures
from tests.faults.rig import FaultCluster, Replica, fault_cluster
from tests.faults.timers import Timers
from tests.faults.traffic import traffic

SECONDS = figures.number("SOAK_SECONDS", 20)
PER_S = 100.0
QUIET_S = 75
"""Seconds. An agent keeps idle connections to its API server for 55 s."""

pytestmark = [pytest.mark.alone, pytest.mark.timeout(200 + SECONDS)]

GAUGES = ("riata_hub_tasks", "riata_hub_streams", "riata_hub_sessions", "riata_hub_requests_in_flight")
"""Of the hub, with its descriptors."""


async def test_after_a_soak_everything_is_as_it_was() -> None:
    seed = figures.seed()
    dice = random.Random(seed)
    of_hub, of_agent = Timers("hub"), Timers("agent")
    async with (
        harness.hub(program=of_hub.program) as hub,
        fault_cluster(hub, "soaked", seed=seed) as cluster,
        cluster.replica("well", program=of_agent.program) as well,
        cluster.replica("killed") as killed,
    ):
        await cluster.connected()
        look = functools.partial(state, hub, of_hub, well, of_agent)
        before, rss = await steady(look), measures.resident_mib(hub.pid)
        started, faults = time.monotonic(), 0
        async with traffic(cluster, PER_S) as seen:
            while time.monotonic() - started < SECONDS:
                await asyncio.sleep(dice.random() * 2)
                await fault(dice, cluster, killed)
                faults += 1
        await cluster.connected()
        after = await settled(look, before)
        figures.show(
            "R23",
            seed,
            seconds=SECONDS,
            requests=seen.total,
            faults=faults,
            otherwise=seen.total - seen.count("whole", "503"),
            hub_rss_grew_mib=measures.resident_mib(hub.pid) - rss,
            settled=after == before,
            timers=sum(count for name, count in after.items() if name.startswith("timers")),
        )
    assert after == before
    assert cluster.stub.more_than_once() == {}


async def fault(dice: random.Random, cluster: FaultCluster, victim: Replica) -> None:
    if dice.random() < 0.5:
        victim.kill()
        await victim.start()
    else:
        victim.proxy.reset()


async def state(hub: harness.Hub, of_hub: Timers, agent: Replica, of_agent: Timers) -> dict[str, float]:
    """What has to be the same."""
    assert agent.child is not None
    page, pages = await measures.scrape(hub.metrics_url), await agent.page()
    found = {name: page.get(name, 0.0) for name in GAUGES}
    found["descriptors of the hub"] = measures.descriptors(hub.pid)
    idle = pages["riata_agent_kube_connections"] if SECONDS < QUIET_S else 0
    found["descriptors of the agent"] = measures.descriptors(agent.child.pid) - idle
    for timers, child in ((of_hub, hub.child), (of_agent, agent.child)):
        found |= {f"timers of the {timers.package}: {name}": n for name, n in (await timers.count(child)).items()}
    return found | {name: pages[name] for name in ("riata_agent_tasks", "riata_agent_exchanges")}


Look = Callable[[], Awaitable[dict[str, float]]]


async def steady(look: Look) -> dict[str, float]:
    """The state once it has been the same for three seconds: what the start has opened is closed again."""
    found: list[dict[str, float]] = []
    while found[-3:] != [found[-1]] * 3 if found else True:
        await asyncio.sleep(1.0)
        found.append(await look())
    return found[-1]


async def settled(look: Look, wanted: dict[str, float]) -> dict[str, float]:
    """The state once it is as wanted, or after QUIET_S."""
    found = await look()
    for _ in range(QUIET_S):
        if found == wanted:
            break
        await asyncio.sleep(1.0)
        found = await look()
    return found
