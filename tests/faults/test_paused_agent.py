"""R5: the agent's process is stopped (SIGSTOP) and goes on later. What was sent to it meanwhile must never happen."""

import asyncio
import signal
import time

import pytest

from tests import harness
from tests.faults import figures
from tests.faults.rig import Client, FaultCluster, Replica, fault_cluster

PAUSE_S = figures.number("PAUSE_SECONDS", 10)
"""`make faults` stops it for 30 s. What matters is that it is longer than the dead interval of 6 s."""

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180 + PAUSE_S)]

SHORT_S = 3.0
"""A pause that a session outlives."""
CHANGES = 5
KNOWN_S = 6.0
FIRST_ANSWER_S = 2.0
BACK_S = 3.0
LATE_S = 2.0
"""How long after SIGCONT something late might still be executed."""


async def test_what_was_sent_to_a_stopped_agent_is_not_resurrected() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "paused", seed=seed) as cluster,
        cluster.node("fallback"),
        cluster.replica("main") as main,
        cluster.client() as client,
    ):
        assert (await client.ask("GET", "id=before")).status == 200
        assert cluster.stub.served[main.name] == 1
        stopped_at = time.monotonic()
        main.send(signal.SIGSTOP)
        try:
            figure = await while_stopped(cluster, client, main, stopped_at)
            await asyncio.sleep(max(stopped_at + PAUSE_S - time.monotonic(), 0.0))
        finally:
            main.send(signal.SIGCONT)
        back_s = await cluster.connected(main)
        await asyncio.sleep(LATE_S)
        late = {the_id: count for the_id, count in cluster.stub.executed.items() if the_id.startswith("swallowed")}
        assert late == {}, "executed behind the SIGCONT, after its client was told that nobody knows"
        assert cluster.stub.served[main.name] == 1, "something else was resurrected"
        assert (await client.ask("GET", "id=after")).status == 200
        assert cluster.stub.served[main.name] == 2, "the agent that goes on serves nothing"
    figures.show("R5", seed, stopped_s=PAUSE_S, **figure, back_s=back_s, resurrected=0)
    assert figure["slowest_read_s"] <= FIRST_ANSWER_S * figures.room()
    assert figure["changes_told_s"] <= KNOWN_S
    assert back_s <= BACK_S * figures.room()


async def while_stopped(cluster: FaultCluster, client: Client, main: Replica, stopped_at: float) -> dict[str, float]:
    """Changes that the hub hands to the stopped agent before it can know, and reads."""
    changes = asyncio.gather(*(client.ask("POST", f"id=swallowed-{n}", body=b"{}") for n in range(CHANGES)))
    reads = await asyncio.gather(*(client.ask("GET", f"id=moved-{n}&size=1000") for n in range(CHANGES)))
    for answer in reads:
        assert answer.is_whole(1000), answer
    for answer in await changes:
        assert answer.status == 504, answer
        assert "Retry-After" not in answer.headers
        assert "outcome unknown" in answer.text
    told_at = time.monotonic()
    assert main.instance not in await cluster.tunnels()
    later = await client.ask("POST", "id=later", body=b"{}")
    assert (later.status, cluster.stub.executed["later"]) == (200, 1)
    return {"slowest_read_s": max(answer.seconds for answer in reads), "changes_told_s": told_at - stopped_at}


async def test_a_short_pause_ends_no_session_and_changes_complete_behind_it() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "hiccup", seed=seed) as cluster,
        cluster.node("fallback"),
        cluster.replica("main") as main,
        cluster.client() as client,
    ):
        assert (await client.ask("GET", "id=before")).route == "cluster"
        main.send(signal.SIGSTOP)
        try:
            changes = asyncio.gather(*(client.ask("POST", f"id=late-{n}", body=b"{}") for n in range(CHANGES)))
            read = await client.ask("GET", "id=read&size=1000")
            await asyncio.sleep(max(SHORT_S - read.seconds, 0.0))
        finally:
            main.send(signal.SIGCONT)
        done = await changes
        sessions = (await main.page())["riata_agent_sessions_total"]
    assert read.is_whole(1000)
    assert read.route == "node"
    assert [answer.status for answer in done] == [200] * CHANGES
    assert {cluster.stub.executed[f"late-{n}"] for n in range(CHANGES)} == {1}
    figures.show("hiccup", seed, stopped_s=SHORT_S, read_s=read.seconds, slowest_change_s=max(a.seconds for a in done))
    assert sessions == 1
