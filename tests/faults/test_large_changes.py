"""Changes as large as an API server takes them, and a first route that does not execute them."""

import asyncio
import hashlib
import random

import pytest

from tests import harness
from tests.faults import figures
from tests.faults.rig import fault_cluster

pytestmark = [pytest.mark.timeout(90)]

SIZES = (2 * 1024 * 1024, 3 * 1024 * 1024)
CHANGES = 8
AT_ONCE = 4
NOBODY = 1
"""A port on which nobody listens: the agent takes the request and finds no way to its API server."""


async def test_a_large_change_that_was_not_taken_runs_once_on_the_next_route() -> None:
    seed = figures.seed()
    bodies = {f"large-{n}": random.Random(f"{seed}/{n}").randbytes(SIZES[n % len(SIZES)]) for n in range(CHANGES)}
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "large", seed=seed) as cluster,
        cluster.node("fallback"),
        cluster.replica("no-way", kube_port=NOBODY) as stuck,
        cluster.client() as client,
    ):
        gate = asyncio.Semaphore(AT_ONCE)

        async def change(name: str) -> float:
            async with gate:
                answer = await client.ask("PUT", f"id={name}", body=bodies[name])
            assert answer.status == 200, answer
            assert answer.headers["Riata-Route"].endswith("reason=fallback-retry; attempts=2"), answer
            return answer.seconds

        seconds = await asyncio.gather(*map(change, bodies))
        read = await client.ask("GET", "id=after&size=1000")
        assert read.is_whole(1000), read
        assert cluster.stub.served[stuck.name] == 0
    figures.show("D2", seed, changes=CHANGES, slowest_s=max(seconds))
    assert {name: cluster.stub.executed[name] for name in bodies} == dict.fromkeys(bodies, 1)
    assert cluster.stub.bodies == {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}
