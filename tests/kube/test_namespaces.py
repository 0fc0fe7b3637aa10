"""May a full cluster's namespaces be made? It is tried, and the reason why not is said."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube import layout, namespaces
from tests.kube.programs import calls, program


@pytest.fixture(autouse=True)
def _not_cached() -> Iterator[None]:
    namespaces.obstacle.cache_clear()
    yield
    namespaces.obstacle.cache_clear()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The PATH, as root's on Linux."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def test_it_is_tried_once(path: Path) -> None:
    program(path / "unshare", f'echo "$@" >> {path / "calls"}')
    assert namespaces.obstacle() is None
    assert namespaces.obstacle() is None
    assert calls(path) == [" ".join(namespaces._TRY[1:])]


def test_root_without_the_right_is_told_why(path: Path) -> None:
    program(path / "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    said = namespaces.obstacle()
    assert said is not None
    assert "CAP_SYS_ADMIN (unshare: unshare failed: Operation not permitted)" in said
    assert said.endswith("use a machine, or a privileged container")


def test_without_the_program_its_package_is_named(path: Path) -> None:
    assert namespaces.obstacle() == "a full cluster needs unshare(1): install the package util-linux"


def test_others_than_root_are_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert namespaces.obstacle() == "a full cluster needs root (namespaces, containerd)"


def test_another_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert namespaces.obstacle() == "a full cluster needs Linux namespaces"


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv, to give the right up"
)
def test_the_kernel_refuses_root_without_cap_sys_admin() -> None:
    code = "from tests.kube import namespaces; print(namespaces.obstacle())"
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=layout.HERE.parents[1], capture_output=True, text=True, timeout=30, check=True)
    assert "root may not make namespaces here" in done.stdout
    assert "not permitted" in done.stdout
