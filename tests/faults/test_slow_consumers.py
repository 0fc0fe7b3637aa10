"""R16: a thousand users ask for much and read nothing. The hub holds little for each, and others do not notice."""

import asyncio
import contextlib
import dataclasses
import math
import os
import socket
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from proto.aio.tasks import TaskGroup
from tests import harness
from tests.bench import processes
from tests.e2e import measures
from tests.faults import figures
from tests.faults.rig import PATH, Client, FaultCluster, fault_cluster

READERS = int(figures.number("SLOW_READERS", 300))
EACH_KIB = 256
"""What the hub holds for one in the end; facts/security.md R16."""
ALL_MIB = 256
"""The same for a thousand."""
FIRST_MIB = 24
"""What the first hundred hold beyond that: they came before the hub was crowded (`proto.window.Budget`)."""
AGENT_MIB = 256
"""What an agent may take with PER_CLUSTER of them: its limit is for a thousand (deploy/charts/riata-agent)."""
SHARE = 0.95
"""Of its throughput that a quick reader keeps, measured before they come and beside them."""
SHARE_BUSY = 0.75
"""The same on a machine that does other things too."""
BYTES = 100 * 1024 * 1024
RECEIVE_BYTES = 4096
"""Of a reader's socket: what the clients' machines hold is not measured, yet shares this machine's memory for TCP."""
QUICK_BYTES = BYTES if figures.room() == 1 else 32_000_000
"""Of a stream that is read fast: how much the start of one costs is another question (ADR 0023)."""
ROUNDS = 30 if figures.room() == 1 else 12
"""The share of a round varies by 4 %, by 8 where the processes take any core."""
WARM_ROUNDS = ROUNDS // 3
"""The first ones after the start vary by more."""
SETTLE_S = 20.0
QUIET_CPU = 0.05
"""Of a core, for the hub and its agents together: they have read ahead what they may."""
IDLE_CPU = 0.1
"""What they may take then, on clocks that count ten milliseconds; a loop that does not rest takes all of a core."""
USERS = 5
PER_CLUSTER = 350

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300 + READERS * 0.2)]


async def test_a_thousand_readers_that_do_not_read_cost_little() -> None:
    seed = figures.seed()
    async with contextlib.AsyncExitStack() as stack:
        hub, twin = [await stack.enter_async_context(harness.hub()) for _ in range(2)]
        clusters = [await connected(stack, hub, f"slow-{number}", seed) for number in range(-(-READERS // PER_CLUSTER))]
        elsewhere = await connected(stack, twin, "elsewhere", seed)
        tokens = [await clusters[0].user(f"reader-{number}") for number in range(USERS)]
        beside, alone = [await stack.enter_async_context(each.client()) for each in (clusters[0], elsewhere)]
        ours = [hub.pid, twin.pid, *(each.replicas[0].pid for each in (*clusters, elsewhere))]
        stack.enter_context(cores_of_their_own(ours))
        await shares(beside, alone, "warm", WARM_ROUNDS)
        base = measures.resident_mib(hub.pid)
        before = await shares(beside, alone, "before")
        async with TaskGroup("readers") as readers:
            await open_all(clusters, tokens, readers, stack)
            idle = await settled(hub.pid, *(each.replicas[0].pid for each in clusters))
            grown = measures.resident_mib(hub.pid) - base
            agent = max(measures.resident_mib(cluster.replicas[0].pid) for cluster in clusters)
            during = await shares(beside, alone, "during")
            for cluster in clusters:
                assert len(await cluster.tunnels()) == 1, f"{cluster.name} lost its tunnel"
    share = during.share / before.share  # two processes that are alike differ by 3 %
    figures.show(
        "R16",
        seed,
        readers=READERS,
        hub_grew_mib=grown,
        kib_each=grown * 1024 / READERS,
        mb_per_s_beside=during.beside,
        mb_per_s_elsewhere=during.elsewhere,
        mb_per_s_before=before.beside,
        share=share,
        idle_cpu=idle,
        agent_mib=agent,
    )
    assert grown <= min(READERS * EACH_KIB / 1024 + FIRST_MIB, max(ALL_MIB, READERS * EACH_KIB / 1024))
    assert share >= (SHARE if figures.room() == 1 else SHARE_BUSY)
    assert agent <= AGENT_MIB
    assert idle <= IDLE_CPU * figures.room()


@contextlib.contextmanager
def cores_of_their_own(pids: list[int]) -> Iterator[None]:
    """Hubs and agents share one core, clients and API servers the others: what the first cost is what is compared."""
    cores = os.sched_getaffinity(0)
    processes.share_cores(pids, os.getpid())
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def connected(stack: contextlib.AsyncExitStack, hub: harness.Hub, name: str, seed: int) -> FaultCluster:
    """A cluster with its agent."""
    cluster = await stack.enter_async_context(fault_cluster(hub, name, seed=seed))
    await stack.enter_async_context(cluster.replica("agent"))
    return cluster


@dataclasses.dataclass(frozen=True)
class Shares:
    """MB a second at the hub that is to get slow readers, and at one that gets none."""

    beside: float
    elsewhere: float

    @property
    def share(self) -> float:
        return self.beside / self.elsewhere


async def shares(beside: Client, alone: Client, name: str, rounds: int = ROUNDS) -> Shares:
    """Both hubs in turns."""
    rates = [await one_round(beside, alone, f"{name}-{number}") for number in range(rounds)]
    return Shares(*[statistics.harmonic_mean(each) for each in zip(*rates, strict=True)])


async def one_round(beside: Client, alone: Client, name: str) -> tuple[float, float]:
    """Here and elsewhere, in the order there, here, here and there, directly one after the other, so that what else the
    machine does slows both, and so does coming first."""
    rates = [await rate(client, f"{name}-{at}") for at, client in enumerate((alone, beside, beside, alone))]
    return statistics.harmonic_mean(rates[1:3]), statistics.harmonic_mean(rates[::3])


async def rate(client: Client, name: str) -> float:
    """MB a second of one quick reader."""
    began = time.monotonic()
    answer = await client.ask("GET", f"id={name}&size={QUICK_BYTES}")
    assert answer.is_whole(QUICK_BYTES), answer.error
    return QUICK_BYTES / 1e6 / (time.monotonic() - began)


async def settled(*pids: int) -> float:
    """Wait until the hub and its agents have read ahead what they may; then what they do for readers that do not read,
    as a share of a core, the least of any second within SETTLE_S."""
    least, until = math.inf, time.monotonic() + SETTLE_S
    while least > QUIET_CPU and time.monotonic() < until:
        before = sum(map(processes.cpu_seconds, pids))
        await asyncio.sleep(1.0)
        least = min(least, sum(map(processes.cpu_seconds, pids)) - before)
    return least


async def open_all(
    clusters: list[FaultCluster], tokens: list[str], group: TaskGroup, stack: contextlib.AsyncExitStack
) -> None:
    """Every reader has its answer's head and reads no further."""
    places = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        async with places:
            await stack.enter_async_context(reader(clusters[number % len(clusters)], tokens[number % USERS], number))

    for number in range(READERS):
        group.spawn(one(number), name=str(number))
    await group.wait()


@contextlib.asynccontextmanager
async def reader(cluster: FaultCluster, token: str, number: int) -> AsyncIterator[None]:
    context = ssl.create_default_context(cafile=str(cluster.hub.ca_file))
    url = urlsplit(cluster.hub.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (url.hostname, url.port))
    source, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=url.hostname, limit=4096)
    head = f"GET /k8s/clusters/{cluster.name}{PATH}?id=slow-{number}&size={BYTES} HTTP/1.1\r\nHost: {url.netloc}\r\n"
    writer.write(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
    try:
        assert (await source.readline()).startswith(b"HTTP/1.1 200")
        yield
    finally:
        writer.transport.abort()
