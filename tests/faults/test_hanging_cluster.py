"""R10: the API server of one cluster takes requests and answers none. Other clusters do not notice."""

import asyncio
import statistics
import time

import pytest

from tests import harness
from tests.e2e import measures
from tests.faults import figures
from tests.faults.rig import Answer, Client, FaultCluster, fault_cluster

IN_FLIGHT = 1_000
"""What a cluster may have under way: hub.proxy.limits.ProxyLimits.per_cluster."""
OF_A_USER = 400
"""What one user may have under way to a cluster: per_user_and_cluster."""
BEYOND = 50
SAMPLES = int(figures.number("SAMPLES", 100))
WINDOWS = 5
"""The figure is the median of so many p99s: one hiccup of the machine is not the hub's."""
pytestmark = [pytest.mark.alone, pytest.mark.timeout(120 + SAMPLES * 0.3)]

CHANGE_S = 0.005
REFUSED_S = 0.05
REFUSALS_S = 20.0
"""All of them; one that is let in would wait for two minutes."""
GROWTH_MIB = 64.0


async def typical(clients: dict[str, Client], name: str) -> dict[str, float]:
    """The p99 of small requests in seconds, by client. They take turns: what the machine does meets both alike."""
    windows: dict[str, list[float]] = {each: [] for each in clients}
    for window in range(WINDOWS):
        taken: dict[str, list[float]] = {each: [] for each in clients}
        for number in range(SAMPLES):
            for each, client in clients.items():
                answer = await client.ask("GET", f"id={name}-{window}-{number}&size=1000")
                assert answer.is_whole(1000), answer
                taken[each].append(answer.seconds)
        for each, samples in taken.items():
            windows[each].append(measures.quantile(samples, 0.99))
    return {each: statistics.median(quantiles) for each, quantiles in windows.items()}


async def test_a_hanging_api_server_slows_no_other_cluster_and_fills_only_its_own_queue() -> None:
    """Beside the hub with the hung cluster, another hub that has none is the measure."""
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        harness.hub(name="measure") as other_hub,
        fault_cluster(hub, "hung", seed=seed) as hung,
        fault_cluster(hub, "well", seed=seed) as well,
        fault_cluster(other_hub, "measure", seed=seed) as measure,
        hung.replica("agent") as stuck,
        well.replica("agent"),
        measure.replica("agent"),
        well.client() as bystander,
        measure.client() as elsewhere,
    ):
        assert stuck.child is not None
        pids = {"hub": hub.pid, "agent": stuck.child.pid}
        clients = {"well": bystander, "measure": elsewhere}
        await typical(clients, "warm")
        memory = {name: measures.resident_mib(pid) for name, pid in pids.items()}
        hung.stub.hangs = True
        async with asyncio.TaskGroup() as group:
            ended: list[Answer] = []
            waiting = await fill(hung, group, ended)
            p99 = await typical(clients, "meanwhile")
            assert not ended, f"{len(ended)} of the requests that hang have ended: {ended[:3]}"
            refused_s = await refused(hung)
            assert not ended, f"{len(ended)} of the requests that hang have ended: {ended[:3]}"
            grown = {name: measures.resident_mib(pid) - memory[name] for name, pid in pids.items()}
            for task in waiting:
                task.cancel()
        in_flight = sum(count for name, count in hung.stub.asked.items() if name.startswith("stuck"))
    figures.show(
        "R10",
        seed,
        in_flight=in_flight,
        p99_beside_it_s=p99["well"],
        p99_of_a_hub_without_s=p99["measure"],
        refused_within_s=refused_s,
        hub_grew_mib=grown["hub"],
        agent_grew_mib=grown["agent"],
    )
    assert p99["well"] - p99["measure"] <= CHANGE_S * figures.room()
    assert refused_s <= REFUSED_S * figures.room()
    assert max(grown.values()) <= GROWTH_MIB


async def fill(hung: FaultCluster, group: asyncio.TaskGroup, ended: list[Answer]) -> list["asyncio.Task[object]"]:
    """Requests of several users until the cluster takes no more; the first of them is the bystander elsewhere.

    `ended` gets the answers of those that do not wait."""
    waiting: list[asyncio.Task[object]] = []
    for number in range(0, IN_FLIGHT, OF_A_USER):
        token = await hung.user(f"user-{number}") if number else ""
        count = min(OF_A_USER, IN_FLIGHT - number)
        waiting.append(group.create_task(hold(hung, token, count, ended), name=f"user {number}"))
    started = time.monotonic()
    while sum(hung.stub.asked.values()) < IN_FLIGHT:
        assert time.monotonic() - started < 30, f"only {sum(hung.stub.asked.values())} requests have arrived"
        await asyncio.sleep(0.1)
    return waiting


async def hold(hung: FaultCluster, token: str, count: int, ended: list[Answer]) -> None:
    """So many requests of one user that wait for their answer, until cancelled."""

    async def wait(number: int) -> None:
        ended.append(await client.ask("GET", f"id=stuck-{number}"))

    async with hung.client(token) as client, asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(wait(number))


async def refused(hung: FaultCluster) -> float:
    """What the next ones get, and within which time."""
    token = await hung.user("late")
    async with hung.client(token) as client, asyncio.timeout(REFUSALS_S):
        answers = [await client.ask("GET", "id=beyond") for _ in range(BEYOND)]
    for answer in answers:
        assert answer.status == 429, answer
        assert answer.headers["Retry-After"]
        assert '"reason":"TooManyRequests"' in answer.text
    return measures.quantile([answer.seconds for answer in answers], 0.99)
