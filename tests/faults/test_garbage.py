"""A garbage collector that looks at everything all the time: what is compiled tells it the truth about what it holds.

A compiled object that counts references or names its fields wrongly ends the program when the collector comes by, which
is rarely (proto.aio.loop.settle). Here it comes by at every twentieth object, under traffic, with requests that are
broken off or refused and tunnels that are cut.
"""

import asyncio
import contextlib
import random
import time

import pytest

from tests import harness
from tests.faults import figures
from tests.faults.rig import FaultCluster, fault_cluster
from tests.faults.traffic import traffic
from tests.harness import tools
from tests.harness.children import Child

SECONDS = figures.number("GARBAGE_SECONDS", 10)
PER_S = 20.0
_PROGRAM = """
import sys
from proto.aio import loop
from {package}.__main__ import main
loop._GC_THRESHOLDS = (20, 2, 2)
sys.exit(main())
"""

pytestmark = [pytest.mark.timeout(120 + 2 * SECONDS)]


def collecting(package: str) -> list[str]:
    """`riata-hub` or `riata-agent`, as compiled as the others, with a collector that never rests."""
    return [str(tools.programs() / "python"), "-I", "-c", _PROGRAM.format(package=package)]


async def broken_off(cluster: FaultCluster, dice: random.Random) -> None:
    """Requests whose clients go away before, in and behind the answer."""
    async with cluster.client() as client:
        for query in ("size=2000000", "delay=1", "every=0.01", "delay=0.05&size=500000"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(dice.random() / 10):
                    await client.ask("GET", query)


async def refused(cluster: FaultCluster) -> None:
    """Of whom the hub knows nothing, and what it does not have."""
    async with cluster.client("riata_unknown") as stranger:
        assert (await stranger.ask("GET", "size=1")).status == 401
    async with cluster.client() as client:
        assert (await client.ask("GET", "", path="/../nowhere")).status >= 400


@pytest.mark.parametrize("mode", ["cluster", "node"])
async def test_it_ends_no_program(mode: str) -> None:
    seed = figures.seed()  # without RIATA_PROGRAMS, by hand, it says something of the sources only
    dice = random.Random(seed)
    async with (
        harness.hub(program=collecting("hub")) as hub,
        fault_cluster(hub, f"swept-{mode}", seed=seed) as cluster,
        cluster.replica("swept", mode=mode, program=collecting("agent")) as swept,
    ):
        agent, started = swept.child, time.monotonic()
        async with traffic(cluster, PER_S) as seen:
            while time.monotonic() - started < SECONDS:
                await broken_off(cluster, dice)
                await refused(cluster)
                swept.proxy.reset()
                await cluster.connected()
        figures.show("garbage", seed, seconds=SECONDS, requests=seen.total, whole=seen.count("whole"))
        assert seen.count("whole") > 0
        assert swept.child is agent
        for child in (hub.child, agent):
            assert isinstance(child, Child)
            assert child.returncode is None, child.log.read_text()[-2000:]
