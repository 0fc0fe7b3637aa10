"""A cgroup of its own for each full cluster, so that nothing of its containers stays behind.

Works with cgroup v1 (every mounted hierarchy) as well as v2. The groups lie below the group we are in ourselves, which
keeps whatever limits this process has.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RECORD: Final = "cgroups"
_REMOVE_WAIT_S: Final = 5.0


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy: where, its type (`cgroup`, `cgroup2`), its options for mount(8)."""

    mount: Path
    kind: str
    options: str


def hierarchies() -> list[Hierarchy]:
    """The cgroup mounts of this mount namespace, without bind mounts of parts."""
    found: dict[Path, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, super_options = right.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            mount = Path(left.split()[4])
            options = ",".join(each for each in super_options.split(",") if each not in {"rw", "ro"})
            found[mount] = Hierarchy(mount, kind, options if kind == "cgroup" else "")
    return list(found.values())


def _own_path(hierarchy: Hierarchy) -> str:
    wanted = set(hierarchy.options.split(",")) if hierarchy.kind == "cgroup" else {""}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if set(controllers.split(",")) & wanted:
            return path
    return "/"


def create(directory: Path, name: str) -> list[Path]:
    """Make a group `name` in every hierarchy and write them down in `directory`. Returns the groups' directories."""
    groups = []
    for hierarchy in hierarchies():
        own = hierarchy.mount / _own_path(hierarchy).lstrip("/")
        group = (own if own.is_dir() else hierarchy.mount) / name
        groups.append(group)
    with (directory / _RECORD).open("a") as record:
        record.writelines(f"{group}\n" for group in groups)
    for group in groups:
        group.mkdir(exist_ok=True)
        _inherit_cpuset(group)
    return groups


def _inherit_cpuset(group: Path) -> None:
    # v1: a new cpuset group has no processor and no memory, and takes no process until it has.
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and not (group / name).read_text().strip():
            (group / name).write_text((group.parent / name).read_text())


def enter(groups: list[Path]) -> None:
    """Move the calling process into the groups."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def recorded(directory: Path) -> list[Path]:
    """Every group written down in `directory`."""
    record = directory / _RECORD
    return [Path(line) for line in record.read_text().splitlines()] if record.exists() else []


def remove_recorded(directory: Path) -> None:
    """Remove every group written down in `directory`; their processes must be dead."""
    for group in recorded(directory):
        remove(group)


def remove(group: Path) -> None:
    """Remove a group with its children; waits a little for dying processes to leave it."""
    deadline = time.monotonic() + _REMOVE_WAIT_S
    while group.is_dir():
        inner = [Path(path) for path, _, _ in os.walk(group, topdown=False)]
        try:
            for each in inner:
                each.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
