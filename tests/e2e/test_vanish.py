"""A client that is suddenly gone leaves nothing: no stream, no descriptor, no request at the API server."""

import asyncio
import contextlib
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e import bulk
from tests.e2e.entry import Entry
from tests.e2e.kubectl import MODES
from tests.e2e.line import Line
from tests.e2e.pods import BOX, NAMESPACE, TALKER, WEB, WEB_PORT
from tests.e2e.rawhttp import SMALL_BUFFER, raw_connection
from tests.e2e.waiting import until
from tests.room import room

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

AT_ONCE = 10
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: v5.channel.k8s.io",
)
POD = f"/api/v1/namespaces/{NAMESPACE}/pods"
KINDS = {
    "watch": (f"{POD}?watch=1", ()),
    "follow": (f"{POD}/{TALKER}/log?follow=true", ()),
    "list": (bulk.LIST, ()),
    "exec": (f"{POD}/{BOX}/exec?command=sleep&command=60&stdout=1", WEBSOCKET),
}


async def long_running(line: Line) -> float:
    """Watch, follow and exec of pods in one namespace, as the full cluster's API server has them under way.

    Controllers and kubelet watch pods too, but of all namespaces, and come and go as they please.
    """
    assert line.full is not None
    page = (await line.full.kubectl("get", "--raw", "/metrics", timeout=30)).check().stdout
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "apiserver_longrunning_requests"
        and sample.labels["resource"] == "pods"
        and sample.labels["scope"] != "cluster"
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_vanished_clients_leave_nothing(hub_line: Line, full: Entry, kind: str) -> None:
    await bulk.ensure_bulk(full)
    path, fields = KINDS[kind]
    base = await hub_line.streams()
    long_base = await long_running(hub_line)

    async def vanish_together() -> float:
        async with contextlib.AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(raw_connection(full, receive_buffer=SMALL_BUFFER))
                for _ in range(AT_ONCE)
            ]
            for connection in connections:
                await connection.request("GET", path, *fields)
            for connection in connections:
                assert (await connection.head(30)).status in {200, 101}
            if kind != "list":  # the figure would be worth nothing if it did not see them
                assert await long_running(hub_line) >= long_base + AT_ONCE
            for connection in connections:
                connection.vanish()
            gone = time.monotonic()
            await hub_line.quiet(base, within=2.0 * room())
            return time.monotonic() - gone

    await vanish_together()  # fills the agent's pool
    await asyncio.sleep(0.2)
    before = hub_line.descriptors()
    took = [await vanish_together() for _ in range(2)]

    async def closed() -> bool:
        return all(count <= before[name] for name, count in hub_line.descriptors().items())

    await until(closed, what=f"descriptors to be back at {before}")

    async def ended() -> bool:
        return await long_running(hub_line) <= long_base

    await until(ended, what="the API server to have ended its side", every=0.3)
    print(f"\n{kind}: {AT_ONCE} clients gone, no stream left after {max(took) * 1e3:.0f} ms")


@pytest.mark.parametrize("mode", MODES)
async def test_a_killed_kubectl_ends_its_program_streams(hub_line: Line, full: Entry, mode: str) -> None:
    kubectl = full.kubectl.over(mode)
    base = await hub_line.streams()
    async with kubectl.running("exec", "-i", BOX, "--", "cat") as shell:
        await shell.send(b"x\n")
        assert await shell.line() == "x"
        assert (await hub_line.streams())["hub"] == base["hub"] + 1
        await shell.kill()
        await hub_line.quiet(base, within=2.0 * room())
    forward = ("port-forward", "--address=127.0.0.1", f"pod/{WEB}", f":{WEB_PORT}")
    async with kubectl.running(*forward) as forwarding:
        await forwarding.line()
        await forwarding.kill()
        await hub_line.quiet(base, within=2.0 * room())
