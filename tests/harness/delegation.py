"""Where a new cgroup v2 group gets controllers.

A group's controllers are those that its parent has in `cgroup.subtree_control`. A group with processes of its own can
have none there (the root excepted), and a login session's scope, our usual group, is such a one. So the group is made
under the nearest ancestor that hands the controllers on or can be told to.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NEEDED: Final = frozenset({"cpu", "cpuset", "memory", "pids"})
"""What runc and the kubelet set limits with."""


@dataclass(frozen=True)
class Place:
    """A parent for a new group, and the controllers to enable in it before."""

    parent: Path
    enable: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Enable what is not yet; it stays so, for other groups may use it meanwhile. Raises OSError."""
        if self.enable:
            wanted = " ".join(f"+{each}" for each in self.enable)
            (self.parent / "cgroup.subtree_control").write_text(wanted)


def place(mount: Path, own: str, needed: frozenset[str] = NEEDED) -> Place | None:
    """Where below `mount` a group has the needed controllers, for a process in the group `own` (`/a/b`); None: nowhere.

    An ancestor that hands them on already is preferred to a nearer one that would have to be changed.
    """
    candidates = [each for each in _ancestors(mount, own) if os.access(each, os.W_OK)]
    for each in candidates:
        if needed <= _words(each / "cgroup.subtree_control"):
            return Place(each)
    for each in candidates:
        if needed <= _words(each / "cgroup.controllers") and _may_hand_on(each):
            return Place(each, tuple(sorted(needed - _words(each / "cgroup.subtree_control"))))
    return None


def _ancestors(mount: Path, own: str) -> list[Path]:
    """Our group and those above it, up to the mount; the mount alone when our group is not to be seen there."""
    inner = Path(own.lstrip("/"))
    if ".." in inner.parts or not (mount / inner).is_dir():
        return [mount]
    return [mount / inner, *(mount / each for each in inner.parents)] if inner.parts else [mount]


def _may_hand_on(group: Path) -> bool:
    is_root = not (group / "cgroup.type").exists()  # the machine's root has no type
    return is_root or not _words(group / "cgroup.procs")


def _words(file: Path) -> frozenset[str]:
    try:
        return frozenset(file.read_text().split())
    except OSError:
        return frozenset()
