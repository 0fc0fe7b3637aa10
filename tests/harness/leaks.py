"""Looks for what a test, or a whole run, left behind."""

import asyncio
import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness import janitor
from tests.harness.failures import tail
from tests.harness.runs import Run

_LOG_BYTES: Final = 3_000
_GRACE_S: Final = 10.0
_CLOSING_S: Final = 2.0
_SHOWN: Final = ("hub.log", "agent.log", "inside.log")


@dataclass(frozen=True)
class Snapshot:
    """Sockets and pipes by descriptor, and child processes, of this process."""

    descriptors: dict[int, str]
    children: frozenset[int]


def snapshot() -> Snapshot:
    """What is open now. Files are left out: loggers and caches keep them on purpose."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(("socket:", "pipe:")):
            descriptors[int(name)] = target
    children: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            children.update(int(pid) for pid in (thread / "children").read_text().split())
        except OSError:
            continue
    return Snapshot(descriptors, frozenset(children))


def leaked(before: Snapshot) -> list[str]:
    """Descriptors and children that are there now and were not before; short-lived ones get a moment to go."""
    deadline = time.monotonic() + _GRACE_S
    while found := _difference(before, snapshot()):
        if time.monotonic() > deadline:
            return found
        gc.collect()
        time.sleep(0.05)
    return []


async def closed(before: Snapshot) -> None:
    """Let the loop close what a test has closed: TLS waits for the other side's goodbye. `leaked` judges."""
    deadline = time.monotonic() + _CLOSING_S
    while _difference(before, snapshot()) and time.monotonic() < deadline:  # noqa: ASYNC110 - descriptors tell nobody
        await asyncio.sleep(0.02)


def _difference(before: Snapshot, now: Snapshot) -> list[str]:
    known = set(before.descriptors.values())
    descriptors = [
        f"descriptor {number} ({target})" for number, target in now.descriptors.items() if target not in known
    ]
    return descriptors + [f"child process {pid}" for pid in now.children - before.children]


def recent_logs(since: float) -> list[tuple[str, str]]:
    """The ends of our programs' logs written to after `since` (wall clock), as report sections.

    Every log of the run, Kubernetes' own too, is then kept after its end.
    """
    run = Run.existing()
    if run is None:
        return []
    run.keep_logs = True
    logs = [log for name in _SHOWN for log in sorted(run.directory.glob(f"*/{name}")) if log.stat().st_mtime >= since]
    return [(f"end of {log.relative_to(run.directory)}", tail(log, _LOG_BYTES)) for log in logs]


def end_run(*, failed: bool) -> list[str]:
    """Close the run of this process. Returns what was left of it: processes, links, mounts, cgroups."""
    run = Run.existing()
    if run is None:
        return []
    run.keep_logs = run.keep_logs or failed
    problems = janitor.leftovers(run.directory)
    run.close()
    return problems
