"""The rows of the race: each measures one way and returns named figures."""

import asyncio
import dataclasses
import os
import signal
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from proto.aio import tasks
from tests.bench import idle, processes
from tests.bench.race.ways import PREFIX, Course, Way

Figures = dict[str, float]
MEGABYTE = 1_000_000
RTT_MS = 50.0
"""Of the slow link (`race.__main__`): 25 ms each way."""
COLD_GETS = 5
SLOW_LISTS = 5
FROZEN_S = 8.0


@dataclasses.dataclass(frozen=True)
class Row:
    """`judged`: the figure that decides; `is_lower_better`; `goal`: what riata's must be, as a multiple of a peer's."""

    name: str
    measure: Callable[[Course, Way], Awaitable[Figures]]
    goals: tuple["Goal", ...]
    ways: tuple[str, ...] = ("direct", "riata", "rd", "yamux")


@dataclasses.dataclass(frozen=True)
class Goal:
    """riata's `figure` against `factor` times the peer's; at most it when `is_most`, at least it otherwise."""

    figure: str
    peer: str
    factor: float
    is_most: bool = False
    plus: float = 0.0

    def bound(self, peer: float) -> float:
        return peer * self.factor + self.plus

    def __str__(self) -> str:
        if not self.factor:
            return f"{self.figure} {'≤' if self.is_most else '≥'} {self.plus:g}"
        plus = f" + {self.plus:g}" if self.plus else ""
        return f"{self.figure} {'≤' if self.is_most else '≥'} {self.factor:g} x {self.peer}{plus}"


async def _gets(course: Course, way: Way, connections: int) -> Figures:
    await course.run(way, "get", "-connections", str(connections), "-duration", "300ms")
    before = way.cpu_seconds()
    result = await course.run(way, "get", "-connections", str(connections), "-duration", "3s")
    hub, agent = (now - then for now, then in zip(way.cpu_seconds(), before, strict=True))
    figures = {"requests/s": result["per_second"], "p50 ms": result["latency"]["p50_ms"],
               "p99 ms": result["latency"]["p99_ms"]}  # fmt: skip
    if way.hub:
        count = result["requests"]
        figures |= {"hub us": hub / count * 1e6, "agent us": agent / count * 1e6,
                    "hub + agent us": (hub + agent) / count * 1e6}  # fmt: skip
    return figures


async def _lists(course: Course, way: Way) -> Figures:
    result = await course.run(way, "list", "-connections", "4", "-duration", "4s")
    return {"MB/s": result["mb_per_second"]}


async def _transfer(course: Course, way: Way, command: str) -> Figures:
    before = way.cpu_seconds()
    result = await course.run(way, command, "-bytes", str(400 * MEGABYTE))
    hub, agent = (now - then for now, then in zip(way.cpu_seconds(), before, strict=True))
    figures = {"MB/s": result["mb_per_second"]}
    if way.hub:
        figures |= {"hub ms/MB": hub / 400 * 1e3, "agent ms/MB": agent / 400 * 1e3}
    return figures


async def _watches(course: Course, way: Way) -> Figures:
    before = way.cpu_seconds()
    result = await course.run(way, "watch", "-connections", "100", "-rate", "10", "-duration", "5s")
    hub, agent = (now - then for now, then in zip(way.cpu_seconds(), before, strict=True))
    figures = {"p99 ms": result["latency"]["p99_ms"], "p50 ms": result["latency"]["p50_ms"]}
    if way.hub:
        figures |= {"hub us/event": hub / 5000 * 1e6, "agent us/event": agent / 5000 * 1e6}
    return figures


async def _keystrokes(course: Course, way: Way, downloads: int, duration: str = "4s") -> Figures:
    result = await course.run(way, "keystroke", "-duration", duration, "-background", str(downloads))
    figures = {"p50 ms": result["latency"]["p50_ms"], "p99 ms": result["latency"]["p99_ms"]}
    if downloads:
        figures["bulk MB/s"] = result["background_mb_per_second"]
    return figures


async def _opens(course: Course, way: Way) -> Figures:
    result = await course.run(way, "open", "-connections", "16", "-duration", "3s")
    return {"opens/s": result["per_second"]}


async def _duplex(course: Course, way: Way) -> Figures:
    result = await course.run(way, "duplex", "-duration", "6s")
    return {"MB/s": result["mb_per_second"], "seconds at zero": result["seconds_at_zero"]}


async def _memory(course: Course, way: Way) -> Figures:
    return {"hub MiB": processes.rss_bytes(way.hub) / 2**20, "agent MiB": processes.rss_bytes(way.agent) / 2**20}


async def _stalled(course: Course, way: Way) -> Figures:
    before = processes.rss_bytes(way.hub)

    async def look() -> float:
        await asyncio.sleep(5)
        return processes.rss_bytes(way.hub) / 2**20

    _, after = await asyncio.gather(course.run(way, "stalled", "-connections", "50", "-duration", "6s"), look())
    return {"hub MiB": after, "grown MiB per reader": (after - before / 2**20) / 50}


async def _cold_get(course: Course, way: Way) -> Figures:
    """The first GET when nobody has a connection to the API server: it was told to close all that are idle."""
    cold = []
    for _ in range(COLD_GETS):
        os.kill(course.target.pid, signal.SIGUSR1)
        await asyncio.sleep(0.4)
        result = await course.run(way, "get", "-duration", "1ms")
        cold.append(result["latency"]["max_ms"])
    warm = await course.run(way, "get", "-duration", "300ms")
    return {"cold GET ms": statistics.median(cold), "warm GET ms": warm["latency"]["p50_ms"]}


async def _frozen(course: Course, way: Way) -> Figures:
    """Two agents of the cluster, one stopped for FROZEN_S: first the older, then the newer. The worse one counts."""
    lost, failures = [], 0
    async with course.another(way) as second, tasks.TaskGroup("frozen") as group:
        await asyncio.sleep(3)
        for pid in (way.agent, second):
            asked = group.spawn(course.run(way, "steady", "-duration", f"{FROZEN_S + 2:g}s"), name="steady")
            await asyncio.sleep(1)
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(FROZEN_S)
            finally:
                os.kill(pid, signal.SIGCONT)
            result = await asked
            lost.append(result["lost_seconds"])
            failures += int(result["failures"])
            await asyncio.sleep(3)
    return {"seconds lost": max(lost), "failed requests": float(failures)}


async def _fresh(course: Course, way: Way) -> Figures:
    return {"agent MiB": course.fresh_rss[way.name] / 2**20}


async def _idle_tunnels(course: Course, way: Way) -> Figures:
    """Of a hub that has done nothing else: memory that was given back would be taken again, and not be seen."""
    async with course.anew(way.name) as fresh:
        return {"hub KiB": await _grown_by_idle_tunnels(course, fresh)}


async def _grown_by_idle_tunnels(course: Course, way: Way) -> float:
    if way.admin is not None:
        at = way.flags.index("-url"), way.flags.index("-ca")
        url, ca = way.flags[at[0] + 1].removesuffix(PREFIX), Path(way.flags[at[1] + 1])
        return await idle.grown_kib(course.directory, url, ca, way.admin, way.hub)
    before = processes.rss_bytes(way.hub)
    async with course.another(way, "-tunnels", str(idle.TUNNELS)):
        await asyncio.sleep(2 + idle.SETTLE_S)
        return (processes.rss_bytes(way.hub) - before) / idle.TUNNELS / 1024


async def _bytes_of(way: Way) -> int:
    async with aiohttp.ClientSession() as session, session.get(way.counts_url) as answer:
        counts = await answer.json(content_type=None)
        return int(counts["up"]) + int(counts["down"])


async def _slow_list(course: Course, way: Way) -> Figures:
    """One list each of some new clients: a single one may be late by half a round trip, on any way."""
    before = await _bytes_of(way)
    lists = [await course.run(way, "list", "-duration", "1ms") for _ in range(SLOW_LISTS)]
    wire = (await _bytes_of(way) - before) / SLOW_LISTS
    return {"ms": statistics.median(each["latency"]["p50_ms"] for each in lists), "MB on the wire": wire / 1e6}


async def _slow_watch(course: Course, way: Way) -> Figures:
    before = await _bytes_of(way)
    result = await course.run(way, "watch", "-rate", "20", "-size", "5000", "-duration", "6s")
    return {"bytes per event": (await _bytes_of(way) - before) / max(result["events"] * 6 / 5, 1)}


async def _idle(course: Course, way: Way) -> Figures:
    await asyncio.sleep(65)  # riata pings more often for a minute after a request (design D4)
    before = await _bytes_of(way)
    await asyncio.sleep(30)
    return {"KB per day": (await _bytes_of(way) - before) / 30 * 86_400 / 1e3}


_ALL = ("direct", "riata", "rd", "rd2", "yamux")
_PEERED = ("riata", "rd", "yamux")

FAST = (
    Row("agent RSS idle", _fresh, (Goal("agent MiB", "rd", 0.0, True, 45.0),), ("riata", "rd", "rd2", "yamux")),
    Row("idle TLS tunnel", _idle_tunnels, (Goal("hub KiB", "rd", 0.0, True, 45.0),), _PEERED),
    Row("GET 1 KiB, 64 connections", lambda c, w: _gets(c, w, 64), (
        Goal("requests/s", "rd", 1.25), Goal("requests/s", "yamux", 1.0), Goal("requests/s", "rd2", 5.0),
        Goal("hub us", "rd", 0.5, True), Goal("hub + agent us", "rd", 0.7, True),
    ), _ALL),
    Row("GET 1 KiB, 1 connection", lambda c, w: _gets(c, w, 1), (Goal("p50 ms", "rd", 1.0, True),)),
    Row("LIST 11 MB x 4", _lists, (Goal("MB/s", "rd", 2.0),)),
    Row("download, 1 stream", lambda c, w: _transfer(c, w, "download"), (
        Goal("MB/s", "rd", 2.0), Goal("hub ms/MB", "rd", 0.5, True), Goal("agent ms/MB", "rd", 0.5, True),
    )),
    Row("upload, 1 stream", lambda c, w: _transfer(c, w, "upload"), (Goal("MB/s", "rd", 1.5),)),
    Row("100 watches x 10 events/s", _watches, (
        Goal("p99 ms", "rd", 1.0, True), Goal("hub us/event", "rd", 0.7, True),
    )),
    Row("keystroke, idle", lambda c, w: _keystrokes(c, w, 0), (
        Goal("p50 ms", "rd", 1.0, True), Goal("p99 ms", "rd", 1.0, True),
    )),
    Row("keystroke beside 4 downloads", lambda c, w: _keystrokes(c, w, 4), (
        Goal("p99 ms", "yamux", 1.0, True), Goal("p99 ms", "rd", 0.12, True),
    )),
    Row("open + echo + close, 16 at a time", _opens, (Goal("opens/s", "rd", 1.3),)),
    Row("memory after the rows above", _memory, (), _PEERED),
    Row("50 stalled readers", _stalled, (Goal("grown MiB per reader", "rd", 0.0, True, 0.5),), _PEERED),
    Row("full duplex", _duplex, (Goal("seconds at zero", "yamux", 0.0, True),), ("direct", "riata", "yamux", "rd")),
    Row("one of two sessions frozen for 8 s", _frozen, (Goal("seconds lost", "rd", 0.0, True, 1.0),), _PEERED),
)  # fmt: skip

SLOW = (
    Row("50 ms RTT, 8 MB/s: cold GET", _cold_get, (Goal("cold GET ms", "rd", 0.0, True, RTT_MS + 10),), _PEERED),
    Row("… keystroke beside 1 download", lambda c, w: _keystrokes(c, w, 1, "8s"), (
        Goal("p99 ms", "rd", 0.0, True, RTT_MS + 25), Goal("bulk MB/s", "rd", 0.0, False, 7.5),
    ), _PEERED),
    Row("… LIST 11 MB", _slow_list, (Goal("ms", "rd", 1.0, True), Goal("MB on the wire", "rd", 0.75, True)), _PEERED),
    Row("… 5 KB watch event", _slow_watch, (Goal("bytes per event", "rd", 0.15, True),), _PEERED),
    Row("… idle tunnel", _idle, (Goal("KB per day", "rd", 1.0, True),), _PEERED),
)  # fmt: skip
