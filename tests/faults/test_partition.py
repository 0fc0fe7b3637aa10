"""R3, R4: the network between an agent and the hub falls silent, in both directions or in one. Nobody is told."""

import asyncio
import contextlib
import datetime
import itertools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests import harness
from tests.faults import figures
from tests.faults.place import Place, obstacle, place
from tests.faults.proxy import Way
from tests.faults.rig import Answer, Client, FaultCluster, Replica, fault_cluster

SILENCE_S = figures.number("SILENCE_SECONDS", 7)
pytestmark = [pytest.mark.alone, pytest.mark.timeout(180 + SILENCE_S)]

KNOWN_S = 6.0
FIRST_ANSWER_S = 2.0
BACK_S = 3.0
MOVED_S = 0.4
"""A read that the hub asks elsewhere has waited for longer (ADR 16)."""
WAYS = {"both": (Way.TO_HUB, Way.TO_AGENT), "to-hub": (Way.TO_HUB,), "to-agent": (Way.TO_AGENT,)}


@dataclass
class Traffic:
    """Reads and changes of one user, one after the other, for as long as the test looks."""

    client: Client
    reads: list[Answer] = field(default_factory=list)
    changes: dict[str, Answer] = field(default_factory=dict)
    followed_bytes: int = 0

    async def read(self, name: str) -> None:
        for number in itertools.count():
            self.reads.append(await self.client.ask("GET", f"id={name}-r{number}&size=1000"))
            await asyncio.sleep(0.05)

    async def change(self, name: str) -> None:
        for number in itertools.count():
            the_id = f"{name}-w{number}"
            self.changes[the_id] = await self.client.ask("POST", f"id={the_id}", body=b"{}")
            await asyncio.sleep(0.1)

    async def follow(self, name: str) -> None:
        """A long answer of 64 KB a second, until it is cut: bulk that keeps arriving makes nobody patient."""
        query = f"follow=true&id={name}-f&size=1000000000&pace=0.25"
        url = f"{self.client.base}/api/v1/namespaces/faults/pods/x/log?{query}"
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async with self.client.session.get(url, timeout=aiohttp.ClientTimeout()) as answer:
                async for piece in answer.content.iter_any():
                    self.followed_bytes += len(piece)
                raise AssertionError("a cut answer passed for a whole one")


@contextlib.asynccontextmanager
async def traffic(client: Client, name: str) -> AsyncIterator[Traffic]:
    made = Traffic(client)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(made.read(f"{name}-{number}")) for number in range(3)]
        running.append(group.create_task(made.change(name)))
        running.append(group.create_task(made.follow(name)))
        yield made
        for task in running:
            task.cancel()


async def until_gone(cluster: FaultCluster, replica: Replica) -> float:
    """When the hub no longer has the tunnel of this process."""
    while replica.instance in await cluster.tunnels():  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)
    return time.monotonic()


async def until_lost(replica: Replica, cut: datetime.datetime) -> float:
    """Seconds from the cut until the agent knew that its session is over, by its own log."""
    while True:
        for record in replica.said("session ended"):
            at = datetime.datetime.fromisoformat(record["time"])
            if at >= cut:
                return (at - cut).total_seconds()
        await asyncio.sleep(0.05)


class Network(Protocol):
    """What falls silent. `ways`: all when none is named."""

    def silence(self, *ways: Way) -> None: ...

    def heal(self) -> None: ...


@dataclass
class Nft:
    """The firewall of the agent's network drops every packet of the hub's port, SYNs too: both sides live with the
    kernel's own time-outs and repetitions."""

    there: Place
    port: int

    def silence(self, *ways: Way) -> None:
        self.there.cut(self.port, *ways)

    def heal(self) -> None:
        self.there.heal()


async def one_silence(hub: harness.Hub, name: str, seed: int, there: Place | None = None) -> dict[str, float]:
    dice = random.Random(f"{seed}/{name}")
    hosts = [there.near_host] if there is not None else []
    async with (
        fault_cluster(hub, name, seed=seed, hosts=hosts) as cluster,
        cluster.node("fallback") as fallback,
        cluster.replica("main", there=there) as main,
        cluster.client() as client,
        traffic(client, name) as seen,
    ):
        network: Network = main.proxy if there is None else Nft(there, port_of(hub.url_on(there.hub_host)))
        await asyncio.sleep(1.0 + dice.uniform(0.0, 2.0))  # at any moment between two pings
        assert cluster.stub.served[main.name] > cluster.stub.served[fallback.name], "the other agent is taken"
        assert seen.followed_bytes > 0
        network.silence(*WAYS[name])  # the firewall's program takes its time
        cut_at, cut = time.monotonic(), datetime.datetime.now(datetime.UTC)
        async with asyncio.timeout(30):
            gone_at, lost_s = await asyncio.gather(until_gone(cluster, main), until_lost(main, cut))
        served_before = cluster.stub.served[main.name]
        await asyncio.sleep(max(cut_at + SILENCE_S - time.monotonic(), 0.0))
        assert cluster.stub.served[main.name] == served_before, "a request went to a session that is over"
        network.heal()
        back_s = await cluster.connected(main)
        await asyncio.sleep(1.0)
        assert cluster.stub.served[main.name] > served_before, "the healed agent serves nothing"
    return judged(cluster, seen, cut_at) | {
        "hub_knew_s": gone_at - cut_at,
        "agent_knew_s": lost_s,
        "back_s": back_s,
    }


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def judged(cluster: FaultCluster, seen: Traffic, cut_at: float) -> dict[str, float]:
    """No read failed, no change ran twice, and none that was told done was not."""
    failed = [answer for answer in seen.reads if not answer.is_whole(1000)]
    assert not failed, f"{len(failed)} of {len(seen.reads)} reads failed: {failed[0]}"
    assert cluster.stub.more_than_once() == {}
    for the_id, answer in seen.changes.items():
        assert answer.status in {200, 504}, answer
        assert answer.status == 504 or cluster.stub.executed[the_id] == 1, f"{the_id} was told done"
        assert answer.status == 200 or "Retry-After" not in answer.headers
    caught = [each for each in seen.reads if each.route == "node" and each.ended_at > cut_at and each.seconds > MOVED_S]
    assert caught, "no read was sent into the silence and answered by the other agent"
    slowest = max(answer.seconds for answer in seen.reads)
    first = min((answer.ended_at for answer in seen.reads if answer.ended_at > cut_at + 0.02), default=0.0) - cut_at
    return {
        "first_answer_s": first,
        "slowest_read_s": slowest,
        "reads": float(len(seen.reads)),
        "caught": float(len(caught)),
        "changes_unknown": float(sum(answer.status == 504 for answer in seen.changes.values())),
        "slowest_change_s": max(answer.seconds for answer in seen.changes.values()),
    }


def check(rows: list[dict[str, float]], seed: int, by: str) -> None:
    for name, row in zip(WAYS, rows, strict=True):
        figures.show(f"{'R3' if name == 'both' else 'R4'} {name}", seed, by=by, **row)
    for row in rows:
        assert row["hub_knew_s"] <= KNOWN_S
        assert row["agent_knew_s"] <= KNOWN_S
        assert row["slowest_read_s"] <= FIRST_ANSWER_S * figures.room()
        assert row["back_s"] <= BACK_S * figures.room()


async def test_a_silent_network_is_noticed_and_its_reads_are_answered_by_another_agent() -> None:
    seed = figures.seed()
    async with harness.hub() as hub:
        check(await asyncio.gather(*(one_silence(hub, name, seed) for name in WAYS)), seed, "fault proxy")


@pytest.mark.skipif(obstacle() is not None, reason=f"a partition in the kernel: {obstacle()}")
async def test_the_same_where_the_kernel_drops_the_packets() -> None:
    seed = figures.seed()
    async with contextlib.AsyncExitStack() as stack:
        places = [await stack.enter_async_context(place()) for _ in WAYS]
        hub = await stack.enter_async_context(harness.hub(listen=[there.near_host for there in places]))
        silences = (one_silence(hub, name, seed, there) for name, there in zip(WAYS, places, strict=True))
        check(await asyncio.gather(*silences), seed, "nft")
