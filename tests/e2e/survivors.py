"""What a harness run shows on the machine; and, as a program, a run that waits to be killed.

`python -m tests.e2e.survivors light|full` starts a cluster, prints the run's name and stays.
"""

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests import harness
from tests.harness import cgroups, images, janitor
from tests.harness.runs import Run, state_root


@dataclass(frozen=True)
class Survey:
    """Processes, network links, namespaces and cgroups of a run, and the machine's mounts outside of it."""

    run: str
    processes: list[int]
    links: list[str]
    namespaces: frozenset[str]
    cgroups: list[Path]
    machine: frozenset[str] = field(default_factory=frozenset)
    own: frozenset[str] = field(default_factory=frozenset)

    def lives(self) -> bool:
        """Whether anything but files is left."""
        return bool(self.processes or self.links or self.own)


def survey(run: str) -> Survey:
    """Look at the machine. Containers carry no mark of the run, so its namespaces are looked for as well."""
    marked = janitor.processes(run)
    ours = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net")}
    namespaces = {name for pid in marked for name in _namespaces(pid)} - ours
    members = [pid for pid in _pids() if namespaces & set(_namespaces(pid))]
    directory = state_root() / run
    mounts = frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return Survey(
        run=run,
        processes=sorted({*marked, *members}),
        links=janitor.links(run),
        namespaces=frozenset(namespaces),
        cgroups=cgroups.recorded(directory),
        machine=mounts,
        own=frozenset(point for point in mounts if run in point),
    )


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _namespaces(pid: int) -> list[str]:
    found = []
    for kind in ("pid", "net"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


async def _stay(size: str) -> None:
    make = harness.full if size == "full" else harness.light
    async with make("victim") as cluster:
        if size == "full":
            run = ("run", "box", f"--image={images.BOX}", "--image-pull-policy=Never")
            (await cluster.kubectl(*run)).check()
            (await cluster.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=60s", timeout=70)).check()
        print(Run.current().name, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_stay(sys.argv[1]))
