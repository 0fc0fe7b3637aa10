"""Where a cgroup v2 group gets controllers: chosen in trees of plain files that look like the kernel's."""

from pathlib import Path

import pytest

from tests.harness.delegation import NEEDED, Place, place

ALL = "cpu cpuset io memory pids"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """The mount of the machine's whole hierarchy; its root has every controller and hands on none."""
    return group(tmp_path / "cgroup", has=ALL, gives="", root=True)


def group(path: Path, *, has: str, gives: str = "", procs: str = "", root: bool = False) -> Path:
    """A group with these controllers, controllers of its children, and processes. Only the real root has no type."""
    path.mkdir()
    (path / "cgroup.controllers").write_text(f"{has}\n")
    (path / "cgroup.subtree_control").write_text(f"{gives}\n")
    (path / "cgroup.procs").write_text(procs)
    if not root:
        (path / "cgroup.type").write_text("domain\n")
    return path


def gives(path: Path, controllers: str) -> None:
    (path / "cgroup.subtree_control").write_text(f"{controllers}\n")


def test_a_login_session_gets_its_group_where_systemd_hands_on(mount: Path) -> None:
    gives(mount, ALL)
    user = group(mount / "user.slice", has=ALL, gives="cpu memory pids")
    group(user / "session-1.scope", has="cpu memory pids", procs="10\n11\n")
    assert place(mount, "/user.slice/session-1.scope") == Place(mount)


def test_the_nearest_ancestor_that_hands_on_is_taken(mount: Path) -> None:
    gives(mount, ALL)
    delegated = group(mount / "delegated", has=ALL, gives=ALL)
    group(delegated / "own", has=ALL, procs="10\n")
    assert place(mount, "/delegated/own") == Place(delegated)


def test_one_that_hands_on_already_goes_before_a_nearer_one_to_be_changed(mount: Path) -> None:
    gives(mount, ALL)
    empty = group(mount / "empty", has=ALL)
    group(empty / "own", has="", procs="10\n")
    assert place(mount, "/empty/own") == Place(mount)


def test_an_ancestor_without_processes_is_told_to_hand_on(mount: Path) -> None:
    empty = group(mount / "empty", has=ALL, gives="memory")
    group(empty / "own", has="memory", procs="10\n")
    chosen = place(mount, "/empty/own")
    assert chosen == Place(empty, ("cpu", "cpuset", "pids"))
    assert chosen is not None
    chosen.prepare()
    assert (empty / "cgroup.subtree_control").read_text() == "+cpu +cpuset +pids"


def test_the_machines_root_may_hand_on_although_it_has_processes(mount: Path) -> None:
    (mount / "cgroup.procs").write_text("1\n2\n")
    assert place(mount, "/") == Place(mount, tuple(sorted(NEEDED)))


def test_a_containers_root_with_processes_may_not(tmp_path: Path) -> None:
    inner = group(tmp_path / "cgroup", has=ALL, procs="1\n")
    assert place(inner, "/") is None
    (inner / "cgroup.procs").write_text("")
    assert place(inner, "/") == Place(inner, tuple(sorted(NEEDED)))


def test_a_root_without_the_controllers_is_no_place(tmp_path: Path) -> None:
    # The unified hierarchy beside v1: the controllers are all taken.
    assert place(group(tmp_path / "cgroup", has="hugetlb", gives="hugetlb", root=True), "/") is None


@pytest.mark.parametrize("own", ["/../../elsewhere", "/not/to/be/seen"])
def test_a_group_outside_the_mount_counts_as_its_root(mount: Path, own: str) -> None:
    gives(mount, ALL)
    assert place(mount, own) == Place(mount)


def test_what_is_already_enabled_is_not_written(mount: Path) -> None:
    gives(mount, ALL)
    Place(mount).prepare()
    assert (mount / "cgroup.subtree_control").read_text() == f"{ALL}\n"
