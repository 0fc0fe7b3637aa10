"""The connection between an agent and the hub is reset, forgotten by one side only, or damaged on its way."""

import asyncio
import time

import pytest

from tests import harness
from tests.faults import figures
from tests.faults.proxy import Way
from tests.faults.rig import Client, FaultCluster, fault_cluster

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

WAITING_S = 1.0
"""How long the API server takes for what is under way when the fault comes."""
ERROR_S = 0.1
NEXT_S = 1.0
KNOWN_S = 6.0
BACK_S = 3.0
DAMAGED = 0.02
"""Share of segments with a turned bit."""
READS = 60


async def test_a_reset_moves_reads_at_once_and_leaves_changes_unknown() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "reset", seed=seed) as cluster,
        cluster.node("fallback"),
        cluster.replica("main") as main,
        cluster.client() as client,
    ):
        read = asyncio.gather(client.ask("GET", f"id=read&size=1000&delay={WAITING_S}"))
        change = asyncio.gather(client.ask("POST", f"id=change&delay={WAITING_S}", body=b"{}"))
        while not {"read", "change"} <= set(cluster.stub.asked):  # noqa: ASYNC110 - counted in callbacks
            await asyncio.sleep(0.005)
        at = time.monotonic()
        assert main.proxy.reset() == 1
        [unknown] = await change
        after = await client.ask("GET", "id=after&size=1000")
        [moved] = await read
        back_s = await cluster.connected(main)
    assert (unknown.status, "Retry-After" in unknown.headers) == (504, False)
    assert after.is_whole(1000)
    assert moved.is_whole(1000)
    assert moved.route == "node"
    assert cluster.stub.executed["change"] <= 1
    figures.show(
        "reset",
        seed,
        change_told_s=unknown.ended_at - at,
        next_request_s=after.ended_at - at,
        read_moved_s=moved.ended_at - at - WAITING_S,
        back_s=back_s,
    )
    assert unknown.ended_at - at <= ERROR_S * figures.room()
    assert after.ended_at - at <= NEXT_S * figures.room()
    assert moved.ended_at - at <= WAITING_S + NEXT_S * figures.room()
    assert back_s <= BACK_S * figures.room()


async def one_half_open(hub: harness.Hub, name: str, gone: Way, seed: int) -> dict[str, float]:
    """One end is reset, the other is not told: a NAT that forgot, a FIN that was lost."""
    async with (
        fault_cluster(hub, name, seed=seed) as cluster,
        cluster.node("fallback"),
        cluster.replica("main") as main,
        cluster.client() as client,
    ):
        assert (await client.ask("GET", "id=before")).route == "cluster"
        at = time.monotonic()
        assert main.proxy.half_open(gone) == 1
        first = await client.ask("GET", "id=first&size=1000")
        assert first.is_whole(1000), first
        back_s = await until_new(cluster, client)
        return {"first_answer_s": first.ended_at - at, "cluster_agent_again_s": back_s}


async def until_new(cluster: FaultCluster, client: Client) -> float:
    """Seconds until the cluster agent serves again over a new connection; every read until then is answered."""
    started = time.monotonic()
    while True:
        answer = await client.ask("GET", "id=until&size=1000")
        assert answer.is_whole(1000), answer
        if answer.route == "cluster":
            return time.monotonic() - started
        assert time.monotonic() - started < 20, "the cluster agent does not come back"
        await asyncio.sleep(0.02)


async def test_a_half_open_connection_is_found_out_from_either_end() -> None:
    seed = figures.seed()
    names = {"hub-gone": Way.TO_HUB, "agent-gone": Way.TO_AGENT}
    async with harness.hub() as hub:
        rows = await asyncio.gather(*(one_half_open(hub, name, gone, seed) for name, gone in names.items()))
    for name, row in zip(names, rows, strict=True):
        figures.show(f"half-open {name}", seed, **row)
    for row in rows:
        assert row["first_answer_s"] <= 2.0
        assert row["cluster_agent_again_s"] <= KNOWN_S + BACK_S * figures.room()


async def test_damage_on_the_way_ends_a_session_and_never_reaches_a_client() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "damaged", seed=seed) as cluster,
        cluster.node("fallback"),
        cluster.replica("main") as main,
        cluster.client() as client,
    ):
        for weather in main.proxy.weather.values():
            weather.corrupt = DAMAGED
        whole = cut = 0
        for number in range(READS):
            answer = await client.ask("GET", f"id=read-{number}&size=50000")
            if answer.error:
                cut += 1  # behind the head: a broken transfer, which is no wrong byte
                continue
            assert answer.is_whole(50000), answer
            whole += 1
        ended = len(main.said("session ended"))
    figures.show("damage", seed, whole=whole, cut=cut, wrong=0, sessions_ended=ended)
    assert ended, "nothing was damaged"
    assert whole > READS / 2
