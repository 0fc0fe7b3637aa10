"""R20: the hub has no descriptor left. What is open goes on, the log stays short, and it is over when some are back."""

import asyncio
import contextlib
import resource
import ssl
import time

import aiohttp
import pytest

from tests import harness
from tests.e2e import measures
from tests.faults import figures
from tests.faults.rig import Client, FaultCluster, fault_cluster
from tests.harness.records import written

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

WITHOUT_S = 3.0
BACK_S = 1.0
KNOCKS = 40


async def test_without_descriptors_what_is_open_goes_on() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "full", seed=seed) as cluster,
        cluster.replica("agent"),
        kept(cluster) as client,
    ):
        assert (await client.ask("GET", "id=before&size=100")).is_whole(100)
        limits = resource.prlimit(hub.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(hub.pid, resource.RLIMIT_NOFILE, (measures.descriptors(hub.pid) + 4, limits[1]))
        full_at = time.monotonic()
        try:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(KNOCKS):
                    await stack.enter_async_context(knock(hub))
                served, began = 0, time.monotonic()
                while time.monotonic() - began < WITHOUT_S:
                    answer = await client.ask("GET", f"id=during-{served}&size=100")
                    assert answer.is_whole(100), answer
                    served += 1
                    await asyncio.sleep(0.01)
                complaints, without_s = said(hub, "accepting failed"), time.monotonic() - full_at
            freed_at = time.monotonic()
            async with cluster.client() as another:
                answer = await another.ask("GET", "id=after&size=100")
            back_s = time.monotonic() - freed_at
            assert answer.is_whole(100), answer
        finally:
            resource.prlimit(hub.pid, resource.RLIMIT_NOFILE, limits)
        assert len(await cluster.tunnels()) == 1, "the tunnel was lost"
    figures.show("R20", seed, seconds=without_s, served=served, lines_of_log=complaints, back_after_s=back_s)
    assert 1 <= complaints <= without_s + 1
    assert back_s <= BACK_S * figures.room()


@contextlib.asynccontextmanager
async def kept(cluster: FaultCluster):  # type: ignore[no-untyped-def] # an async iterator of Client
    """A user with one connection, which stays open."""
    context = ssl.create_default_context(cafile=str(cluster.hub.ca_file))
    headers = {"Authorization": f"Bearer {cluster.hub.admin_token_file.read_text().strip()}"}
    connector = aiohttp.TCPConnector(ssl=context, limit=1)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield Client(session, f"{cluster.hub.url}/k8s/clusters/{cluster.name}")


@contextlib.asynccontextmanager
async def knock(hub: harness.Hub):  # type: ignore[no-untyped-def] # an async iterator of None
    """A connection that says nothing."""
    host, port = hub.url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        yield
    finally:
        writer.transport.abort()


def said(hub: harness.Hub, event: str) -> int:
    """Lines of the hub's log with this event."""
    return sum(line.get("event") == event for line in written(hub.log))
