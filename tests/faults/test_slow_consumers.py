"""R16: a thousand users ask for much and read nothing. The hub holds little for each, and others do not notice."""

import asyncio
import contextlib
import socket
import ssl
import statistics
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from proto.aio.tasks import TaskGroup
from tests import harness
from tests.e2e import measures
from tests.faults import figures
from tests.faults.rig import PATH, Client, FaultCluster, fault_cluster

READERS = int(figures.number("SLOW_READERS", 300))
EACH_KIB = 256
"""What the hub may hold for one (facts/security.md R16), 256 MiB for all together."""
ALLOCATOR_MIB = 32
"""By how much what a process keeps from earlier differs between two looks: 25 seen. Of 256 in all it takes none."""
SHARE = 0.95
"""Of its throughput that a quick reader keeps."""
BYTES = 100 * 1024 * 1024
RECEIVE_BYTES = 4096
"""Of a reader's socket: what the clients' machines hold is not measured, yet shares this machine's memory for TCP."""
QUICK_BYTES = 20_000_000
USERS = 5
PER_CLUSTER = 350

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180 + READERS * 0.2)]


async def test_a_thousand_readers_that_do_not_read_cost_little() -> None:
    seed = figures.seed()
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(harness.hub())
        clusters = []
        for number in range(-(-READERS // PER_CLUSTER)):
            cluster = await stack.enter_async_context(fault_cluster(hub, f"slow-{number}", seed=seed))
            await stack.enter_async_context(cluster.replica("agent"))
            clusters.append(cluster)
        tokens = [await clusters[0].user(f"reader-{number}") for number in range(USERS)]
        client = await stack.enter_async_context(clusters[0].client())
        before = await throughput(client, "before")
        base = measures.resident_mib(hub.pid)
        async with TaskGroup("readers") as readers:
            await open_all(clusters, tokens, readers, stack)
            await asyncio.sleep(1.0)
            grown = measures.resident_mib(hub.pid) - base
            during = await throughput(client, "during")
            for cluster in clusters:
                assert len(await cluster.tunnels()) == 1, f"{cluster.name} lost its tunnel"
    figures.show(
        "R16",
        seed,
        readers=READERS,
        hub_grew_mib=grown,
        kib_each=grown * 1024 / READERS,
        mb_per_s_before=before,
        mb_per_s_beside=during,
        share=during / before,
    )
    assert grown <= min(READERS * EACH_KIB / 1024 + ALLOCATOR_MIB, 256.0)
    assert during / before >= SHARE / figures.room()


async def throughput(client: Client, name: str) -> float:
    """MB a second of one quick reader, the median of five downloads."""
    rates = []
    for number in range(5):
        began = time.monotonic()
        answer = await client.ask("GET", f"id={name}-{number}&size={QUICK_BYTES}")
        assert answer.is_whole(QUICK_BYTES), answer.error
        rates.append(QUICK_BYTES / 1e6 / (time.monotonic() - began))
    return statistics.median(rates)


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
