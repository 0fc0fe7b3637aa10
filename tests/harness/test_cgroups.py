"""A cgroup for each full cluster: where on v1 and on v2, and why not."""

from pathlib import Path

import pytest

from tests.harness import cgroups, delegation
from tests.harness.cgroups import Hierarchy
from tests.harness.failures import HarnessError
from tests.harness.test_delegation import ALL, group


def _machine(monkeypatch: pytest.MonkeyPatch, *found: Hierarchy, own: str = "/") -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: list(found))
    monkeypatch.setattr(cgroups, "_own_path", lambda _: own)


def test_on_v1_every_hierarchy_has_one_below_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, unified = tmp_path / "memory", tmp_path / "unified"
    (memory / "own").mkdir(parents=True)
    group(unified, has="hugetlb", root=True)
    _machine(monkeypatch, Hierarchy(memory, "cgroup", "memory"), Hierarchy(unified, "cgroup2", ""), own="/own")
    assert cgroups.obstacle() is None
    groups = cgroups.create(tmp_path, "riata-x")
    assert groups == [memory / "own" / "riata-x", unified / "riata-x"]
    assert all(each.is_dir() for each in groups)
    assert cgroups.recorded(tmp_path) == groups
    cgroups.remove_recorded(tmp_path)
    assert not any(each.exists() for each in groups)


def test_on_v1_a_new_group_inherits_processors_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (tmp_path / name).write_text(value)
        (tmp_path / "made").mkdir(exist_ok=True)
        (tmp_path / "made" / name).write_text("\n")
    _machine(monkeypatch, Hierarchy(tmp_path, "cgroup", "cpuset"))
    (made,) = cgroups.create(tmp_path, "made")
    assert [(made / name).read_text() for name in ("cpuset.cpus", "cpuset.mems")] == ["0-1\n", "0\n"]


def test_on_v2_it_lies_where_controllers_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = group(tmp_path / "cgroup", has=ALL, gives=ALL, root=True)
    group(mount / "session.scope", has=ALL, procs="10\n")
    _machine(monkeypatch, Hierarchy(mount, "cgroup2", ""), own="/session.scope")
    assert cgroups.obstacle() is None
    assert cgroups.create(tmp_path, "riata-x") == [mount / "riata-x"]
    assert (mount / "riata-x").is_dir()


def test_on_v2_controllers_are_enabled_where_they_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = group(tmp_path / "cgroup", has=ALL, root=True)
    _machine(monkeypatch, Hierarchy(mount, "cgroup2", ""))
    cgroups.create(tmp_path, "riata-x")
    assert (mount / "cgroup.subtree_control").read_text() == "+cpu +cpuset +memory +pids"


def test_on_v2_without_a_place_the_reason_and_the_cure_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = group(tmp_path / "cgroup", has="memory pids", procs="1\n")
    _machine(monkeypatch, Hierarchy(mount, "cgroup2", ""))
    said = cgroups.obstacle()
    assert said is not None
    assert f"between ours and {mount} hands on the controllers cpu, cpuset, memory, pids" in said
    assert f"echo '+cpu +cpuset +memory +pids' > {mount}/cgroup.subtree_control" in said
    with pytest.raises(HarnessError, match="no writable cgroup"):
        cgroups.create(tmp_path, "riata-x")
    assert cgroups.recorded(tmp_path) == []


def test_a_group_that_refuses_to_hand_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = delegation.Place(tmp_path / "gone", ("memory",))
    monkeypatch.setattr(delegation, "place", lambda *_: refusing)
    _machine(monkeypatch, Hierarchy(tmp_path, "cgroup2", ""))
    with pytest.raises(HarnessError, match=r"cgroup .*gone does not hand on memory"):
        cgroups.create(tmp_path, "riata-x")


def test_without_any_hierarchy_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch)
    assert cgroups.obstacle() == "no cgroup hierarchy is mounted: mount one (cgroup2 at /sys/fs/cgroup)"
