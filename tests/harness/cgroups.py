"""A cgroup of its own for each full cluster, so that nothing of its containers stays behind.

With cgroup v1, and in the unified hierarchy beside it, the groups lie below the group we are in ourselves, which keeps
whatever limits this process has. With v2 alone they lie where they get controllers (`delegation`). What of this was run
where: docs/adr/0006.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness import delegation
from tests.harness.failures import HarnessError

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


def is_v2_alone(found: list[Hierarchy]) -> bool:
    """Whether controllers come from cgroup v2. Beside v1 hierarchies the unified one has none that matter."""
    return bool(found) and all(each.kind == "cgroup2" for each in found)


def obstacle() -> str | None:
    """Why no cgroup with the controllers of containers can be made here, None when one can."""
    found = hierarchies()
    if not found:
        return "no cgroup hierarchy is mounted: mount one (cgroup2 at /sys/fs/cgroup)"
    if any(_place(each, found) is None for each in found):
        return refusal(found[0].mount)
    return None


def refusal(mount: Path) -> str:
    """What stands in the way when v2 has no place for a group, and the cure."""
    return (
        f"no writable cgroup between ours and {mount} hands on the controllers {', '.join(sorted(delegation.NEEDED))}: "
        f"echo '+cpu +cpuset +memory +pids' > {mount}/cgroup.subtree_control, or start this where they are delegated"
    )


def _place(hierarchy: Hierarchy, found: list[Hierarchy]) -> delegation.Place | None:
    if is_v2_alone(found):
        return delegation.place(hierarchy.mount, _own_path(hierarchy))
    own = hierarchy.mount / _own_path(hierarchy).lstrip("/")
    return delegation.Place(own if own.is_dir() else hierarchy.mount)


def create(directory: Path, name: str) -> list[Path]:
    """Make a group `name` in every hierarchy and write them down in `directory`. Returns the groups' directories.

    Raises HarnessError when a hierarchy has no place for one.
    """
    found = hierarchies()
    places = [place for place in (_place(each, found) for each in found) if place is not None]
    if len(places) < len(found):
        raise HarnessError(refusal(found[0].mount))
    groups = [place.parent / name for place in places]
    with (directory / _RECORD).open("a") as record:
        record.writelines(f"{group}\n" for group in groups)
    for place, group in zip(places, groups, strict=True):
        _prepare(place)
        group.mkdir(exist_ok=True)
    if not is_v2_alone(found):
        for group in groups:
            _inherit_cpuset(group)
    return groups


def _prepare(place: delegation.Place) -> None:
    try:
        place.prepare()
    except OSError as problem:
        raise HarnessError(f"cgroup {place.parent} does not hand on {', '.join(place.enable)}: {problem}") from problem


def _inherit_cpuset(group: Path) -> None:
    # v1: a new cpuset group has no processor and no memory, and takes no process until it has.
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and not (group / name).read_text().strip():
            (group / name).write_text((group.parent / name).read_text())


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
