"""One size of fleet on a hub of its own: what it costs idle, and what happens when all tunnels are lost."""

import asyncio
import json
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

from tests.bench import processes
from tests.bench.results import Figures
from tests.bench.scale import fleet, probe
from tests.bench.scale.fleet import PER_CLUSTER, WATCHES_PER_CLUSTER, Agents
from tests.bench.scale.hub import Hub

SETTLE_S: Final = 3.0
IDLE_S: Final = 8.0
REPEATS: Final = 5


async def measure(directory: Path, load: Path, clusters: int) -> Figures:
    """All figures of one size."""
    hub = await fleet_hub(directory)
    try:
        _tell(clusters, "registering")
        bare = hub.mebibytes()
        began = time.monotonic()
        tokens = await fleet.register(hub, clusters)
        figures = {"registering s": time.monotonic() - began, "hub, empty MiB": bare}
        await hub.kill()
        figures["start-up s"] = await hub.start()
        figures["hub, clusters registered MiB"] = hub.mebibytes()
        _tell(clusters, "connecting")
        began = time.monotonic()
        async with fleet.connected(hub, tokens) as agents:
            figures["connecting s"] = time.monotonic() - began
            figures |= await _loaded(hub, load, clusters, figures["hub, clusters registered MiB"])
            figures |= await _lost(hub, load, clusters, agents)
        return figures
    finally:
        await hub.stop()


async def fleet_hub(directory: Path, kind: type[Hub] = Hub) -> Hub:
    directory.mkdir()
    hub = await kind.create(directory)
    try:
        await hub.start()
    except BaseException:
        await hub.stop()
        raise
    return hub


async def _loaded(hub: Hub, load: Path, clusters: int, before: float) -> Figures:
    """Tunnels alone, then with their watches."""
    await asyncio.sleep(SETTLE_S)
    with_tunnels = hub.mebibytes()
    figures = {
        "tunnels": float(PER_CLUSTER * clusters),
        "KiB per tunnel": (with_tunnels - before) * 1024 / (PER_CLUSTER * clusters),
        "idle CPU, tunnels only %": await _idle_cpu(hub),
    }
    _tell(clusters, "watching")
    async with fleet.watching(hub, load, clusters) as seconds:
        await asyncio.sleep(SETTLE_S)
        figures["watches"] = float(WATCHES_PER_CLUSTER * clusters)
        figures["opening watches s"] = seconds
        figures["hub MiB"] = hub.mebibytes()
        figures["KiB per watch"] = (figures["hub MiB"] - with_tunnels) * 1024 / (WATCHES_PER_CLUSTER * clusters)
        _tell(clusters, "idling")
        figures["idle CPU %"] = await _idle_cpu(hub)
        figures |= await _asked(hub, load)
    return figures


async def _idle_cpu(hub: Hub) -> float:
    """Per cent of one core."""
    before = processes.cpu_seconds(hub.pid)
    await asyncio.sleep(IDLE_S)
    return (processes.cpu_seconds(hub.pid) - before) / IDLE_S * 100


async def _asked(hub: Hub, load: Path) -> Figures:
    """Scrape, list, one GET through the hub; and how long a scrape holds the loop."""
    async with probe.probing(hub) as idle:
        await asyncio.sleep(2.0)
    async with probe.probing(hub) as scraped:
        scrape_s, scrape_bytes = await _timed(lambda: _scrape(hub))
    async with probe.probing(hub) as listed:
        list_s, list_bytes = await _timed(lambda: _list(hub))
    through = ["-url", f"{hub.url}/k8s/clusters/{fleet.cluster(0)}", "-ca", str(hub.ca), "-token-file", str(hub.admin)]
    got = await _run(load, "get", *through, "-connections", "1", "-duration", "2s")
    return {
        "scrape ms": scrape_s * 1e3,
        "scrape KB": scrape_bytes / 1e3,
        "loop lag in scrapes, max ms": scraped.figures()["loop lag max ms"],
        "list API ms": list_s * 1e3,
        "list API KB": list_bytes / 1e3,
        "loop lag in lists, max ms": listed.figures()["loop lag max ms"],
        "admin GET p50 ms": idle.figures()["admin GET p50 ms"],
        "admin GET p99 ms": idle.figures()["admin GET p99 ms"],
        "GET through a tunnel p50 ms": got["latency"]["p50_ms"],
        "GET through a tunnel p99 ms": got["latency"]["p99_ms"],
    }


async def _timed(ask: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    seconds, size = [], 0
    for _ in range(REPEATS):
        began = time.monotonic()
        size = await ask()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds), size


async def _scrape(hub: Hub) -> int:
    async with aiohttp.ClientSession() as session, session.get(hub.metrics_url) as answer:
        return len(await answer.read())


async def _list(hub: Hub) -> int:
    headers = {"Authorization": f"Bearer {hub.admin.read_text().strip()}"}
    context = ssl.create_default_context(cafile=str(hub.ca))
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{hub.url}/v1/clusters", ssl=context) as answer,
    ):
        answer.raise_for_status()
        return len(await answer.read())


async def _lost(hub: Hub, load: Path, clusters: int, agents: Agents) -> Figures:
    """Every tunnel drops with watches on them; then the hub dies without a word and is started again."""
    figures = {}
    _tell(clusters, "dropping all tunnels")
    async with fleet.watching(hub, load, clusters), probe.probing(hub) as seen:
        dropped_at = agents.drop()
        figures["dropped: all back s"] = await agents.all_open() - dropped_at
    figures |= {f"dropped: {name}": value for name, value in seen.figures().items()}
    await asyncio.sleep(SETTLE_S)
    figures["dropped: hub MiB after"] = hub.mebibytes()
    _tell(clusters, "killing the hub")
    killed_at = time.monotonic()
    await hub.kill()
    figures["killed: start-up in the storm s"] = await hub.start()
    async with probe.probing(hub) as seen:
        figures["killed: all back s"] = await agents.all_open() - killed_at
    figures |= {f"killed: {name}": value for name, value in seen.figures().items()}
    return figures


async def _run(load: Path, *arguments: str) -> dict[str, dict[str, float]]:
    process = await asyncio.create_subprocess_exec(str(load), *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"load {arguments[0]} failed")
    answer: dict[str, dict[str, float]] = json.loads(out)
    return answer


def _tell(clusters: int, what: str) -> None:
    print(f"{clusters} clusters: {what}", file=sys.stderr, flush=True)
