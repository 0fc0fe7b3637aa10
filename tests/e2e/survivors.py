"""What a harness run shows on the machine; and, as a program, a run that waits to be killed.

`python -m tests.e2e.survivors light|full` starts a cluster, announces its run and stays.
"""

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tests import harness
from tests.harness import cgroups, images, janitor
from tests.harness.runs import Run, state_root

_KINDS = ("pid", "net", "mnt")


class Process(NamedTuple):
    """A process that no later one of the same id is taken for: `started` is in clock ticks since boot."""

    pid: int
    started: int


@dataclass(frozen=True)
class Survey:
    """Processes, namespaces, network links, mounts and cgroups of one run."""

    run: str
    processes: frozenset[Process]
    namespaces: frozenset[str]
    links: list[str]
    mounts: list[str]
    cgroups: list[Path]

    def lives(self) -> bool:
        """Whether anything but files and groups is left."""
        return bool(self.processes or self.namespaces or self.links or self.mounts)


_seen: dict[str, Survey] = {}


def survey(run: str) -> Survey:
    """Look at the machine for what `run` has, and for what an earlier look found of it.

    A container carries no mark of the run: it is found as a descendant of a marked process, and when all of those are
    dead by what was seen of it before. So look once while the run lives.
    """
    before = _seen.get(run)
    table, marked = _table(), set(janitor.processes(run))
    found = {process for process in table if process.pid in marked or (before and process in before.processes)}
    found = _with_descendants(found, table)
    ours = set(_namespaces(os.getpid()))
    known = {name for process in found for name in _namespaces(process.pid)} - ours
    known |= before.namespaces if before else set()
    found |= {process for process in table if known & set(_namespaces(process.pid))}
    living = {name for process in found for name in _namespaces(process.pid)} - ours
    kept, mounts = _mounts(run, known)
    groups = cgroups.recorded(state_root() / run)
    result = Survey(run, frozenset(found), frozenset(living | kept), janitor.links(run), mounts, groups)
    _seen[run] = result if before is None else _both(before, result)
    return result


def _both(before: Survey, now: Survey) -> Survey:
    return replace(now, processes=before.processes | now.processes, namespaces=before.namespaces | now.namespaces)


def _table() -> dict[Process, int]:
    """Every process that is not a zombie, and its parent's id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] not in {"Z", "X"}:
                found[Process(int(entry.name), int(fields[19]))] = int(fields[1])
    return found


def _with_descendants(found: set[Process], table: dict[Process, int]) -> set[Process]:
    children: dict[int, set[Process]] = {}
    for process, parent in table.items():
        children.setdefault(parent, set()).add(process)
    result, new = set(found), set(found)
    while new:
        new = {child for process in new for child in children.get(process.pid, ())} - result
        result |= new
    return result


def _namespaces(pid: int) -> list[str]:
    found = []
    for kind in _KINDS:
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def _mounts(run: str, namespaces: set[str]) -> tuple[set[str], list[str]]:
    """Those of `namespaces` that a mount keeps alive, and the mount points that are the run's."""
    kept, points = set(), []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        root, point = line.split()[3:5]
        if root in namespaces:
            kept.add(root)
        if root in namespaces or run in point:
            points.append(point)
    return kept, points


async def _stay(size: str) -> None:
    make = harness.full if size == "full" else harness.light
    async with make("victim") as cluster:
        await occupy(cluster)
        announce()
        await asyncio.Event().wait()


def announce() -> None:
    """Tell the name of this process's run to whoever reads its output."""
    print(f"\nrun {Run.current().name}", flush=True)


async def occupy(cluster: harness.Cluster) -> None:
    """Run a pod on a full cluster: a container has a shim and namespaces of its own."""
    if cluster.size == "full":
        run = ("run", "box", f"--image={images.BOX}", "--image-pull-policy=Never")
        (await cluster.kubectl(*run)).check()
        (await cluster.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=60s", timeout=70)).check()


if __name__ == "__main__":
    # A shell that starts the tests in the background lets all of them ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_stay(sys.argv[1]))
