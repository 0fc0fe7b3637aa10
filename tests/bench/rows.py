"""The rows of `make bench`: each takes the rig and returns named figures."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench import idle, processes
from tests.bench.results import Figures
from tests.bench.rig import Rig

MEGABYTE = 1_000_000
STALLED = 50


async def _with_cpu(rig: Rig, measure: Awaitable[dict[str, Any]]) -> tuple[dict[str, Any], float, float]:
    """Return what was measured, and the CPU seconds that hub and agent spent meanwhile."""
    hub, agent = processes.cpu_seconds(rig.hub_pid), processes.cpu_seconds(rig.agent_pid)
    result = await measure
    return result, processes.cpu_seconds(rig.hub_pid) - hub, processes.cpu_seconds(rig.agent_pid) - agent


async def small_gets(rig: Rig, connections: int) -> Figures:
    """GET 1 KiB on the given number of connections for 4 s."""
    flags = ["-connections", str(connections), "-duration", "4s"]
    await rig.run("get", *rig.through, "-connections", str(connections), "-duration", "500ms")
    result, hub, agent = await _with_cpu(rig, rig.run("get", *rig.through, *flags))
    direct = await rig.run("get", *rig.direct, *flags)
    count = result["requests"]
    return {
        "requests/s": result["per_second"],
        "p50 ms": result["latency"]["p50_ms"],
        "p99 ms": result["latency"]["p99_ms"],
        "hub us/request": hub / count * 1e6,
        "agent us/request": agent / count * 1e6,
        "direct requests/s": direct["per_second"],
    }


async def transfer(rig: Rig, command: str) -> Figures:
    """Move 512 MB on one stream."""
    flags = ["-bytes", str(512 * MEGABYTE)]
    await rig.run(command, *rig.through, "-bytes", str(64 * MEGABYTE))
    result, hub, agent = await _with_cpu(rig, rig.run(command, *rig.through, *flags))
    direct = await rig.run(command, *rig.direct, *flags)
    size = result["megabytes"]
    return {
        "MB/s": result["mb_per_second"],
        "hub ms/MB": hub / size * 1e3,
        "agent ms/MB": agent / size * 1e3,
        "direct MB/s": direct["mb_per_second"],
    }


async def keystrokes(rig: Rig, downloads: int) -> Figures:
    """64 bytes through an upgraded stream every 10 ms for 5 s, beside saturating downloads."""
    flags = ["-duration", "5s", "-background", str(downloads)]
    result = await rig.run("keystroke", *rig.through, *flags)
    direct = await rig.run("keystroke", *rig.direct, *flags)
    figures = {"p50 ms": result["latency"]["p50_ms"], "p99 ms": result["latency"]["p99_ms"]}
    if downloads:
        figures["moving MB/s"] = result["background_mb_per_second"]
    return figures | {"direct p50 ms": direct["latency"]["p50_ms"], "direct p99 ms": direct["latency"]["p99_ms"]}


async def idle_memory(rig: Rig) -> Figures:
    """RSS of both processes as they stand."""
    return {
        "hub MiB": processes.rss_bytes(rig.hub_pid) / 2**20,
        "agent MiB": processes.rss_bytes(rig.agent_pid) / 2**20,
    }


async def stalled_readers(rig: Rig) -> Figures:
    """RSS growth while 50 clients asked for endless bodies and read nothing."""
    before = await idle_memory(rig)

    async def look() -> Figures:
        await asyncio.sleep(6)
        return await idle_memory(rig)

    flags = ["-connections", str(STALLED), "-duration", "8s"]
    after: Figures
    _, after = await asyncio.gather(rig.run("stalled", *rig.through, *flags), look())
    return {"hub MiB": after["hub MiB"], "agent MiB": after["agent MiB"],
            "hub MiB per reader": (after["hub MiB"] - before["hub MiB"]) / STALLED,
            "agent MiB per reader": (after["agent MiB"] - before["agent MiB"]) / STALLED}  # fmt: skip


async def idle_tunnels(rig: Rig) -> Figures:
    """RSS growth of the hub per idle TLS tunnel."""
    each = await idle.grown_kib(rig.directory, rig.hub_url, rig.hub_ca, rig.admin_token_file, rig.hub_pid)
    return {"tunnels": float(idle.TUNNELS), "hub KiB each": each}


ROWS: dict[str, Callable[[Rig], Awaitable[Figures]]] = {
    "idle memory": idle_memory,
    "GET 1 KiB, 1 connection": lambda rig: small_gets(rig, 1),
    "GET 1 KiB, 16 connections": lambda rig: small_gets(rig, 16),
    "GET 1 KiB, 64 connections": lambda rig: small_gets(rig, 64),
    "download, 1 stream": lambda rig: transfer(rig, "download"),
    "upload, 1 stream": lambda rig: transfer(rig, "upload"),
    "keystroke, idle": lambda rig: keystrokes(rig, 0),
    "keystroke, 4 downloads": lambda rig: keystrokes(rig, 4),
    "50 stalled readers": stalled_readers,
    "idle tunnels": idle_tunnels,
}
