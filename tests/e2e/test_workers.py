"""A hub with two worker processes in front of a real cluster: whichever way the kernel sends a client, nothing differs.

Every check is repeated until it has been served both by the worker that has the tunnel and over a hop from the other.
The whole suite runs against two workers too: `make e2e-workers`.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio

from tests import harness
from tests.e2e import measures
from tests.e2e.entry import Entry
from tests.e2e.fixtures import fresh
from tests.e2e.hubapi import HubApi
from tests.e2e.kubectl import MODES
from tests.e2e.line import Line
from tests.e2e.pods import BOX, NAMESPACE, WEB, WEB_PORT
from tests.e2e.waiting import until
from tests.room import room

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

HOPS = "riata_hub_hops_total"
OPENED = "riata_hub_stream_open_seconds_count"
"""Streams that an agent has answered, over whichever way."""
TRIES = 24


@dataclass
class Pair:
    """A hub with two workers, and the way into the full cluster through it."""

    hub: harness.Hub
    api: HubApi
    entry: Entry

    async def on_both_ways(self, check: Callable[[], Awaitable[object]]) -> None:
        """Repeat until requests of it were served over a hop, and others without one."""
        hopped = direct = 0.0
        for _ in range(TRIES):
            before = await measures.scrape(self.hub.metrics_url)
            await check()
            after = await measures.scrape(self.hub.metrics_url)
            hops = after[HOPS] - before[HOPS]
            hopped += hops
            direct += after[OPENED] - before[OPENED] - hops
            if hopped and direct > 0:
                return
        raise AssertionError(f"{TRIES} tries met one worker only: {hopped:g} hops, {direct:g} without one")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pair(line: Line, whole_full: Entry, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Started behind the shared line, whose pods it uses."""
    assert line.full is not None
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(harness.hub(options=["--workers", "2"], name="hub-workers"))
        await stack.enter_async_context(harness.agent(hub, line.full, name="two-workers"))
        admin = hub.admin_token_file.read_text().strip()
        directory = tmp_path_factory.mktemp("workers")
        api = HubApi(hub.url, hub.ca_file, admin, whole_full.kubectl.program, directory, made=[admin])
        token = (await api.mint("tests", user="tess")).token
        await api.grant("tests", user="tess", cluster="*", role="admin")
        yield Pair(hub, api, api.entry("two-workers", token))


async def test_reads_writes_and_watches(pair: Pair) -> None:
    entry = await fresh(pair.entry)
    numbers = iter(range(1000))

    async def check() -> None:
        name = f"c{next(numbers)}"
        async with entry.kubectl.running("get", "configmaps", "--watch-only", "-o", "name") as watch:
            await asyncio.sleep(0.5)
            await entry.kubectl("create", "configmap", name, "--from-literal=a=b")
            async with asyncio.timeout(20):
                assert await watch.line() == f"configmap/{name}"
        got = await entry.kubectl("get", "configmap", name, "-o", "json")
        assert json.loads(got.stdout)["data"] == {"a": "b"}
        await entry.kubectl("delete", "configmap", name)

    await pair.on_both_ways(check)


@pytest.mark.parametrize("mode", MODES)
async def test_exec(pair: Pair, mode: str) -> None:
    kubectl = pair.entry.inside(NAMESPACE).kubectl.over(mode)
    data = os.urandom(4 * 1024 * 1024)

    async def check() -> None:
        result = await kubectl("exec", "-i", BOX, "--", "sh", "-c", "sha256sum; exit 3", stdin=data, rc=3)
        assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()

    await pair.on_both_ways(check)


async def test_port_forward(pair: Pair) -> None:
    kubectl = pair.entry.inside(NAMESPACE).kubectl

    async def check() -> None:
        forward = ("port-forward", "--address=127.0.0.1", f"pod/{WEB}", f":{WEB_PORT}")
        async with kubectl.running(*forward) as forwarding, aiohttp.ClientSession() as session:
            port = (await forwarding.line()).split()[2].rpartition(":")[2]
            for number in range(3):
                async with session.get(f"http://127.0.0.1:{port}/{number}", headers={"Connection": "close"}) as answer:
                    assert answer.status == 200
                    await answer.read()

    await pair.on_both_ways(check)


async def test_revocation_is_felt_on_both_ways(pair: Pair) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{BOX}/exec?command=sleep&command=600&stdout=1"
    minted = await pair.api.mint("revoked", user="tess")
    entry = pair.api.entry("two-workers", minted.token)
    protocols = ("v5.channel.k8s.io",)
    async with contextlib.AsyncExitStack() as stack:
        sockets = []

        async def open_one() -> None:
            session = await stack.enter_async_context(entry.session())
            sockets.append(await session.ws_connect(entry.at(path), protocols=protocols))

        await pair.on_both_ways(open_one)
        began = time.monotonic()
        await pair.api.must("DELETE", f"/v1/tokens/{minted.id}")
        for socket in sockets:
            async with asyncio.timeout(1 * room()):
                while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
        assert time.monotonic() - began < 1.0 * room()
        async with entry.session() as session, session.get(entry.at("/version")) as answer:
            assert answer.status == 401


async def test_nothing_is_left(pair: Pair) -> None:
    """Last: streams end with their clients, hops when they are idle."""

    async def rests() -> bool:
        page = await measures.scrape(pair.hub.metrics_url)
        return page["riata_hub_streams"] == 0 and page["riata_hub_requests_in_flight"] == 0

    await until(rests, what="the streams to end", within=30)
