"""R1: the agent is SIGKILLed in the middle of a request. What its client gets, how fast, and who serves the next."""

import collections
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests import harness
from tests.e2e.measures import quantile
from tests.faults import figures
from tests.faults.failpoint import BETWEEN, POINTS
from tests.faults.rig import Answer, Client, FaultCluster, fault_cluster
from tests.harness.runs import Run

KILLS = int(figures.number("KILLS", 50))

"""At each of POINTS; a fifth of it at each place between them."""

pytestmark = [pytest.mark.timeout(180 + KILLS * 10)]

BODY_BYTES = 300_000
"""Of an answer that is cut in its middle: many DATA frames."""
ERROR_S = 0.1
NEXT_S = 1.0


@dataclass
class Tally:
    """What all the kills together have shown."""

    errors: list[float] = field(default_factory=list)
    """From the death of the process to the end of the client's answer, where it is an error."""
    retried: list[float] = field(default_factory=list)
    """The same where the request was sent again for the client."""
    next_ones: list[float] = field(default_factory=list)
    """From the death to the whole answer of the next request."""
    cut: int = 0
    kills: collections.Counter[str] = field(default_factory=collections.Counter)


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[FaultCluster]:
    async with harness.hub() as hub, fault_cluster(hub, "killed", seed=figures.seed()) as cluster:
        yield cluster


async def test_an_agent_killed_in_a_request_costs_no_read_and_repeats_no_change(cluster: FaultCluster) -> None:
    dice = random.Random(cluster.seed)
    deaths = Run.current().subdirectory("deaths")
    tally = Tally()
    async with (
        cluster.node("fallback") as fallback,
        cluster.replica("doomed", failpoints=deaths) as doomed,
        cluster.client() as client,
    ):
        for number, point in enumerate(points(dice)):
            if number % 100 == 99:
                fallback.renew()
            await cluster.connected(doomed, fallback)
            tally.kills[point] += 1
            method = dice.choice(("GET", "POST"))
            framing = dice.choice(("", "&chunked=1"))  # a piece of a chunked body has no length to betray it
            await one_kill(cluster, client, f"{number}-{point}-{method}", framing, deaths, tally)
            await doomed.again()
    assert cluster.stub.more_than_once() == {}
    figures.show(
        "R1",
        cluster.seed,
        kills=tally.kills.total(),
        **tally.kills,
        error_after_death_p99_s=quantile(tally.errors, 0.99),
        error_after_death_max_s=max(tally.errors),
        next_request_p99_s=quantile(tally.next_ones, 0.99),
        next_request_max_s=max(tally.next_ones),
        reads_sent_again=len(tally.retried),
        retried_within_max_s=max(tally.retried),
        bodies_cut=tally.cut,
        executed_twice=0,
        truncated_taken_for_whole=0,
    )
    assert quantile(tally.errors, 0.99) <= ERROR_S * figures.room()
    assert max(tally.next_ones) <= NEXT_S * figures.room()


def points(dice: random.Random) -> Iterator[str]:
    """Where each process dies: each point as often as the others, in no order that it could get used to."""
    for number in range(KILLS):
        some = [*POINTS, *(BETWEEN if number % 5 == 0 else ())]
        yield from dice.sample(some, len(some))


async def one_kill(cluster: FaultCluster, client: Client, name: str, framing: str, deaths: Path, tally: Tally) -> None:
    """One request that kills its agent, and the next one."""
    _, point, method = name.split("-")
    query = f"fault={point}&id={name}&size={BODY_BYTES}{framing}"
    answer = await client.ask(method, query, body=b"{}" if method == "POST" else None)
    died = deaths / name
    assert died.exists(), f"no agent died of {name}: {answer}"
    died_at = float(died.read_text())
    after = await client.ask("GET", f"id={name}-next&size=100")
    assert after.is_whole(100), f"the request after {name}: {after}"
    assert after.route == "node", f"the request after {name} went by {after.headers['Riata-Route']}"
    tally.next_ones.append(after.ended_at - died_at)
    executed = cluster.stub.executed[name]
    if point == "mid_body":
        check_cut(answer, name)
        assert executed == (method == "POST")
        tally.cut += 1
        tally.errors.append(answer.ended_at - died_at)
    elif method == "GET":
        assert answer.is_whole(BODY_BYTES), f"{name} was not sent again: {answer}"
        tally.retried.append(answer.ended_at - died_at)
    else:
        assert answer.status == 504, f"{name}: {answer}"
        assert "Retry-After" not in answer.headers, f"{name}: client-go would repeat it"
        assert "outcome unknown" in answer.text
        assert executed == (0 if point == "after_dial" else 1)
        tally.errors.append(answer.ended_at - died_at)


def check_cut(answer: Answer, name: str) -> None:
    """The head was there, and nobody can take the rest for whole."""
    assert answer.status == 200, f"{name}: {answer}"
    assert answer.error, f"{name}: a piece of {answer.size} bytes passes for the whole"
    assert answer.size < BODY_BYTES
