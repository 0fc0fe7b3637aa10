"""Keystrokes beside a hundred watches and a 50 MB LIST; readers that stall; each must not feel the others."""

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest

from tests.e2e import bulk, measures
from tests.e2e.entry import Entry
from tests.e2e.line import Line
from tests.e2e.pods import BOX, NAMESPACE
from tests.e2e.rawhttp import SMALL_BUFFER, raw_connection
from tests.room import room

pytestmark = [pytest.mark.alone, pytest.mark.full, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

WATCHES = 100
KEYS = 150
STALLED = 10
GETS = 100
ALLOWANCE_S = 0.3
"""How much later the slowest may come beside the load than in idleness. A stream that waits for another one's end
comes seconds later. Not a figure of merit: everything here shares the machine's cores, API server, kubelet and etcd
included; `make bench` measures."""


def felt(idle: list[float], loaded: list[float]) -> None:
    """Print the p99 of both; raise AssertionError when the load made it worse than it may."""
    before, after = measures.quantile(idle, 0.99), measures.quantile(loaded, 0.99)
    allowed = 2 * before + ALLOWANCE_S * room()
    print(f"p99: {before * 1e3:.1f} ms idle, {after * 1e3:.1f} ms beside the load, {allowed * 1e3:.0f} ms allowed")
    assert after < allowed


async def keystrokes(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[float]:
    """Echo times of single keys through `cat` in the pod, in seconds."""
    samples = []
    for number in range(count):
        key = f"{number}\n".encode()
        sent = time.monotonic()
        await socket.send_bytes(b"\x00" + key)
        echoed = b""
        while not echoed.endswith(key):
            message = await socket.receive(timeout=20)
            assert message.type is aiohttp.WSMsgType.BINARY, message
            if message.data[:1] == b"\x01":
                echoed += message.data[1:]
        samples.append(time.monotonic() - sent)
        await asyncio.sleep(0.01)
    return samples


async def test_keystrokes_beside_watches_and_a_list(full: Entry) -> None:
    await bulk.ensure_bulk(full)
    watch = full.at(f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&labelSelector=load")
    cat = full.at(f"/api/v1/namespaces/{NAMESPACE}/pods/{BOX}/exec?command=cat&stdin=1&stdout=1")
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(full.session())
        watches = [await stack.enter_async_context(session.get(watch)) for _ in range(WATCHES)]
        assert {each.status for each in watches} == {200}
        socket = await stack.enter_async_context(session.ws_connect(cat, protocols=("v5.channel.k8s.io",)))
        idle = await keystrokes(socket, KEYS)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_lists(full, typed := asyncio.Event()))
            loaded = await keystrokes(socket, KEYS)
            typed.set()
        sizes = reading.result()
        assert min(sizes) > bulk.BYTES
        name = f"load-{time.monotonic_ns()}"
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"load": "yes"}}}
        async with session.post(full.at(f"/api/v1/namespaces/{NAMESPACE}/configmaps"), json=document) as answer:
            assert answer.status == 201
        async with asyncio.timeout(20):
            events = await asyncio.gather(*(each.content.readline() for each in watches))
        assert {json.loads(event)["object"]["metadata"]["name"] for event in events} == {name}
        async with session.delete(full.at(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")) as answer:
            assert answer.status == 200
    print(f"\nkeystrokes, idle beside {WATCHES} watches: {measures.shown(idle)}")
    print(f"keystrokes beside {len(sizes)} LISTs of {sizes[0] / 1e6:.0f} MB: {measures.shown(loaded)}")
    felt(idle, loaded)


async def _lists(entry: Entry, stop: asyncio.Event) -> list[int]:
    """Sizes of whole LISTs, one after the other until `stop`; each read by a process of its own, not by this one."""
    sizes = []
    while not stop.is_set():
        async with entry.kubectl.running("get", "--raw", bulk.LIST) as raw:
            assert raw.process.stdout is not None
            size = 0
            while chunk := await raw.process.stdout.read(1 << 20):
                size += len(chunk)
            sizes.append(size)
    return sizes


async def small_gets(session: aiohttp.ClientSession, entry: Entry) -> list[float]:
    """How long small requests take one after the other, in seconds."""
    samples = []
    for _ in range(GETS):
        sent = time.monotonic()
        async with session.get(entry.at("/api/v1/namespaces/default")) as answer:
            assert answer.status == 200
            await answer.read()
        samples.append(time.monotonic() - sent)
    return samples


async def test_stalled_readers_do_not_slow_others(hub_line: Line, full: Entry) -> None:
    await bulk.ensure_bulk(full)
    agent = hub_line.agents[hub_line.full.name if hub_line.full else ""]
    before = {name: measures.resident_mib(pid) for name, pid in (("hub", hub_line.hub.pid), ("agent", agent.pid))}
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(full.session())
        idle = await small_gets(session, full)
        for _ in range(STALLED):
            reader = await stack.enter_async_context(raw_connection(full, receive_buffer=SMALL_BUFFER))
            await reader.request("GET", bulk.LIST, "Accept-Encoding: identity", "Connection: close")
            assert (await reader.head(60)).status == 200
        samples = await small_gets(session, full)
        after = {name: measures.resident_mib(pid) for name, pid in (("hub", hub_line.hub.pid), ("agent", agent.pid))}
        # The last one wakes up and gets everything, to the end.
        rest = await reader.rest(60)
    assert rest.endswith(b"0\r\n\r\n") or len(rest) > bulk.BYTES
    print(f"\nsmall GETs, idle: {measures.shown(idle)}")
    print(f"small GETs beside {STALLED} stalled readers: {measures.shown(samples)}")
    print("resident MiB: " + ", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in before))
    felt(idle, samples)
    assert after["agent"] < 100
    assert after["hub"] - before["hub"] < 64
