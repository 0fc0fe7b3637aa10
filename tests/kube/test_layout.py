"""What is pinned, what the binaries call themselves, and where they are looked for."""

import re
import shutil
from pathlib import Path

import pytest

from tests.kube import layout
from tests.kube.programs import program

ENVTEST = ("etcd", "kube-apiserver", "kubectl")


def _required(module: str) -> dict[str, str]:
    text = (layout.HERE / module / "go.mod").read_text()
    return dict(re.findall(r"^\t(\S+) (v\S+?)(?: // indirect)?$", text, re.MULTILINE))


def _tools(module: str) -> set[str]:
    text = (layout.HERE / module / "go.mod").read_text()
    block = re.search(r"^tool \(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL)
    return set(block[1].split()) if block else set(re.findall(r"^tool (\S+)$", text, re.MULTILINE))


# --- the pins -------------------------------------------------------------------------------------------------------


def test_kubernetes_and_etcd_are_pinned() -> None:
    required = _required("cluster")
    assert required["k8s.io/kubernetes"] == f"v{layout.KUBE_VERSION}" == "v1.37.2"
    assert {required[f"go.etcd.io/etcd/{name}/v3"] for name in ("server", "etcdctl", "etcdutl")} == {"v3.7.3"}


def test_every_staging_module_is_replaced_by_its_release() -> None:
    text = (layout.HERE / "cluster" / "go.mod").read_text()
    replaced = re.findall(r"^\t(\S+) => (\S+) (v\S+)$", text, re.MULTILINE)
    assert text.count("=>") == len(replaced) == 33
    assert all((left, version) == (right, "v0.37.2") for left, right, version in replaced)
    # Kubernetes' own go.mod requires its staging modules as v0.0.0, which exists nowhere.
    unpublished = {name for name, version in _required("cluster").items() if version == "v0.0.0"}
    assert unpublished <= {left for left, _, _ in replaced}


def test_kwok_is_pinned_in_a_module_of_its_own() -> None:
    assert _required("kwok")["sigs.k8s.io/kwok"] == "v0.8.0"
    assert "sigs.k8s.io/kwok" not in _required("cluster")


@pytest.mark.parametrize("module", ["cluster", "kwok"])
def test_the_tools_are_those_of_the_module(module: str) -> None:
    assert {tool.package for tool in layout.TOOLS if tool.module == module} == _tools(module)


# --- the stamp and the key ------------------------------------------------------------------------------------------


def test_the_binaries_are_stripped_and_know_their_version() -> None:
    flags = layout.ldflags()
    assert flags.startswith("-s -w -X ")
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for stamp in ("gitVersion=v1.37.2", "gitMajor=1", "gitMinor=37", "gitTreeState=clean", f"gitCommit={'0' * 40}"):
            assert f"-X {package}.{stamp} " in f"{flags} "


@pytest.mark.parametrize("name", ["cluster/go.mod", "cluster/go.sum", "kwok/go.mod", "kwok/go.sum"])
def test_the_key_changes_with_each_module_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout.key()
    shutil.copytree(layout.HERE, tmp_path / "kube", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(layout, "HERE", tmp_path / "kube")
    assert layout.key() == before
    with (tmp_path / "kube" / name).open("a") as file:
        file.write("// another line\n")
    assert layout.key() != before


def test_the_key_changes_with_flags_and_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {layout.key()}
    monkeypatch.setitem(layout._STAMPS, "gitVersion", "v1.37.3")
    keys.add(layout.key())
    monkeypatch.setattr(layout, "TOOLS", layout.TOOLS[:-1])
    keys.add(layout.key())
    assert len(keys) == 3


# --- where they are -------------------------------------------------------------------------------------------------


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert layout.bin_dir() == tmp_path / "riata" / "kube" / layout.key() / "bin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert layout.bin_dir().is_relative_to(tmp_path / "home" / ".cache")


def test_a_missing_tool_is_named_with_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert layout.obstacle(("etcd", "kwok")) == f"etcd, kwok not in {layout.bin_dir()}: run `make kube`"


def test_assets_are_used_and_what_they_lack_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    for name in ENVTEST:
        program(tmp_path / name, "true")
    (tmp_path / "kwok").write_text("not executable")
    assert layout.bin_dir() == tmp_path
    assert layout.obstacle(ENVTEST) is None
    said = layout.obstacle((*ENVTEST, "kube-scheduler", "kwok"))
    assert said is not None
    assert said.startswith(f"kube-scheduler, kwok not in KUBEBUILDER_ASSETS={tmp_path}: unset it")
    assert "or put them there" in said
