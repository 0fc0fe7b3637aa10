"""What stands in the way of a cluster is said before it is tried, with the cure."""

import platform
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import cgroups, tools
from tests.harness.failures import MissingTool
from tests.kube import busybox, layout, namespaces
from tests.kube.programs import program

ENVTEST = ("etcd", "kube-apiserver", "kubectl")


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """KUBEBUILDER_ASSETS with the three programs that envtest brings."""
    directory = tmp_path / "assets"
    for name in ENVTEST:
        program(directory / name, "true")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(directory))
    return directory


@pytest.fixture
def machine(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with everything a full cluster needs; the PATH."""
    for tool in layout.TOOLS:
        program(assets / tool.name, "true")
    path = tmp_path / "path"
    for name in tools._PROGRAMS:
        program(path / name, "true")
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(tools, "CNI_BIN", path)
    program(path / "bridge", "true")
    for module in (namespaces, busybox, cgroups):
        monkeypatch.setattr(module, "obstacle", lambda: None)
    return path


# --- light ----------------------------------------------------------------------------------------------------------


def test_envtests_three_programs_make_the_smallest_cluster(assets: Path) -> None:
    assert tools.light_obstacle() is None
    assert tools.kube("etcd") == str(assets / "etcd")


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda: tools.light_obstacle(controller_manager=True), "kube-controller-manager"),
        (lambda: tools.light_obstacle(scheduler=True), "kube-scheduler"),
        (lambda: tools.light_obstacle(kwok=True), "kwok"),
        (
            lambda: tools.light_obstacle(controller_manager=True, scheduler=True, kwok=True),
            "kube-controller-manager, kube-scheduler, kwok",
        ),
    ],
    ids=["controller manager", "scheduler", "kwok", "all three"],
)
def test_what_else_a_cluster_needs_is_named(assets: Path, ask: Callable[[], str | None], name: str) -> None:
    said = ask()
    assert said is not None
    assert said.startswith(f"{name} not in KUBEBUILDER_ASSETS={assets}: unset it")


def test_a_single_tool_names_the_cure_too(assets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match=r"kwok not in KUBEBUILDER_ASSETS=.*: unset it"):
        tools.kube("kwok")
    monkeypatch.delenv("KUBEBUILDER_ASSETS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingTool, match=r"kwok not in .*: run `make kube`"):
        tools.kube("kwok")


# --- full -----------------------------------------------------------------------------------------------------------


def test_a_machine_with_everything_has_no_obstacle(machine: Path) -> None:
    assert tools.full_obstacle() is None
    assert tools.full_obstacle(kwok=True) is None


@pytest.mark.parametrize("module", [namespaces, busybox, cgroups], ids=lambda module: module.__name__)
def test_what_the_machine_refuses_is_the_reason(machine: Path, monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setattr(module, "obstacle", lambda: "the reason")
    assert tools.full_obstacle() == "the reason"


def test_a_missing_tool_or_program_is_the_reason(machine: Path, assets: Path) -> None:
    (machine / "runc").unlink()
    (machine / "bridge").unlink()
    assert tools.full_obstacle() == "runc, CNI plug-ins missing: run `make node-packages`"
    (assets / "kwok").unlink()
    assert str(tools.full_obstacle(kwok=True)).startswith("kwok not in KUBEBUILDER_ASSETS=")
    (assets / "kubelet").unlink()
    assert str(tools.full_obstacle()).startswith("kubelet not in KUBEBUILDER_ASSETS=")


# --- hub and agent --------------------------------------------------------------------------------------------------


def test_the_named_programs_are_started_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIATA_PROGRAMS", str(tmp_path))
    with pytest.raises(MissingTool, match=f"no {tmp_path}/riata-hub: run `make compiled`"):
        tools.console_script("riata-hub", "hub")
    program(tmp_path / "riata-hub", "true")
    assert tools.console_script("riata-hub", "hub") == [str(tmp_path / "riata-hub")]
    assert not tools.console_script("riata", "ctl")[0].startswith(str(tmp_path))


def test_a_report_names_their_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIATA_PROGRAMS", raising=False)
    assert tools.python() == f"Python {platform.python_version()} with {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"
    monkeypatch.setenv("RIATA_PROGRAMS", str(tmp_path))
    assert tools.interpreter() == sys.executable
    program(tmp_path / "python", "echo Python 3.99")
    assert tools.interpreter() == str(tmp_path / "python")
    assert tools.python() == "Python 3.99"
