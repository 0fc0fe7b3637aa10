"""How throughput grows with the hub's processes: `python -m tests.bench.workers [--rounds N]`.

Load, agent and API server take cores too, and this must show the hub's part alone. So each process of the hub that
serves is allowed only a share of a core (a cgroup's quota), so small that all the others have plenty, and everything
that is asked of it waits for it. What grows with the number of processes is then the hub. Tunnels and clients meet the
workers as the kernel spreads them, so there are several of both. Needs root.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import processes
from tests.bench.__main__ import build_load
from tests.bench.rig import CLUSTER, HUB_READY, Rig, agent_command, running, start, wait_connected, write
from tests.e2e.measures import scrape

SHARE: Final = 0.2
PERIOD_US: Final = 10_000
CLUSTERS: Final = 6
CONNECTIONS: Final = "32"
"""For each cluster: enough for every worker to have some waiting, else it is the luck of the draw that is measured."""
COUNTS: Final = (1, 2, 3)
_V1: Final = Path("/sys/fs/cgroup/cpu")
_V2: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    requests_per_s: float
    p50_ms: float
    hub_us: float
    hops: float


@contextlib.contextmanager
def limited(pids: list[int]) -> Iterator[None]:
    """Give each process SHARE of a core while the block runs."""
    root = _V1 if (_V1 / "cpu.cfs_quota_us").exists() else _V2
    quota = int(PERIOD_US * SHARE)
    groups = [root / f"riata-bench-{pid}" for pid in pids]
    try:
        for group, pid in zip(groups, pids, strict=True):
            group.mkdir()
            if root == _V1:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group, pid in zip(groups, pids, strict=True):
            with contextlib.suppress(OSError):
                (root / "cgroup.procs").write_text(str(pid))
                group.rmdir()


def serving(hub_pid: int) -> list[int]:
    """The processes of a hub that serve: its workers, or itself."""
    children = Path(f"/proc/{hub_pid}/task/{hub_pid}/children").read_text().split()
    return [int(pid) for pid in children] or [hub_pid]


async def ask(rig: Rig, duration: str) -> list[dict[str, Any]]:
    """Load on all clusters at once."""
    flags = ["-connections", CONNECTIONS, "-duration", duration]
    ways = [[rig.through[0], f"{rig.hub_url}/k8s/clusters/{name}", *rig.through[2:]] for name in names()]
    return await asyncio.gather(*(rig.run("get", *way, *flags) for way in ways))


async def measure(rig: Rig) -> Figure:
    pids = serving(rig.hub_pid)
    await ask(rig, "500ms")
    hopped = await _hops(rig)
    with limited(pids):
        before = sum(map(processes.cpu_seconds, pids))
        results = await ask(rig, "6s")
        used = sum(map(processes.cpu_seconds, pids)) - before
    count = sum(result["requests"] for result in results)
    share = (await _hops(rig) - hopped) / count
    p50_ms = statistics.median(result["latency"]["p50_ms"] for result in results)
    return Figure(sum(result["per_second"] for result in results), p50_ms, used / count * 1e6, share)


async def _hops(rig: Rig) -> float:
    ready = json.loads((rig.directory / HUB_READY).read_text())
    return (await scrape(ready["metrics_url"])).get("riata_hub_hops_total", 0.0)


@contextlib.asynccontextmanager
async def _rig(load: Path, workers: int) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory() as directory:
        async with running(Path(directory), load, workers=workers) as rig, contextlib.AsyncExitStack() as stack:
            for name in names()[1:]:
                await _add(stack, rig, name)
            yield rig


async def _add(stack: contextlib.AsyncExitStack, rig: Rig, name: str) -> None:
    """A further cluster with an agent of its own, in front of the same API server."""
    await rig.call("POST", "/v1/clusters", {"name": name})
    minted = await rig.call("POST", f"/v1/clusters/{name}/agent-tokens", {"name": "bench"})
    token = write(rig.directory / f"{name}.token", minted["token"])
    kube = ["--kube-url", rig.target_url, "--kube-ca-file", str(rig.target_ca)]
    kube += ["--kube-token-file", str(rig.target_token_file)]
    ready = {"ca_file": str(rig.hub_ca), "ca_pin": rig.hub_ca_pin}
    await start(stack, rig.directory / f"{name}.log", agent_command(rig.hub_url, ready, token, kube))
    await wait_connected(rig, name)


def names() -> list[str]:
    return [CLUSTER, *(f"{CLUSTER}-{number}" for number in range(2, CLUSTERS + 1))]


async def compare(load: Path, rounds: int) -> dict[int, list[Figure]]:
    """Measure all counts in turn, `rounds` times, each with a hub of its own."""
    found: dict[int, list[Figure]] = {count: [] for count in COUNTS}
    for _ in range(rounds):
        for count in COUNTS:
            async with _rig(load, count) as rig:
                found[count].append(await measure(rig))
    return found


def table(found: dict[int, list[Figure]]) -> str:
    """Markdown; medians."""
    lines = ["| workers | requests/s | times | hub us/request | over a hop | p50 ms |", "|---|---|---|---|---|---|"]
    base = statistics.median(figure.requests_per_s for figure in found[COUNTS[0]])
    for count, figures in found.items():
        rate = statistics.median(figure.requests_per_s for figure in figures)
        cost = statistics.median(figure.hub_us for figure in figures)
        hops = statistics.median(figure.hops for figure in figures)
        p50 = statistics.median(figure.p50_ms for figure in figures)
        lines.append(f"| {count} | {rate:,.0f} | {rate / base:.2f} | {cost:.0f} | {hops:.0%} | {p50:.1f} |")
    return "\n".join(lines)


def main() -> None:
    if os.getuid() != 0:
        sys.exit("this needs root: it limits the hub's processes by cgroups")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=Path, help="a load client already built")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["RIATA_HUB_BUSY_POLL_SHARE"] = "0"  # the quota comes when a hub runs already, and counts such time too
    with tempfile.TemporaryDirectory(prefix="riata-bench-") as name:
        load = arguments.load or build_load(Path(name))
        print(table(asyncio.run(compare(load, arguments.rounds))))


if __name__ == "__main__":
    main()
