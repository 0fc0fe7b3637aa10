"""Building the tools: once, with progress, going on after a failure; with a stand-in for Go."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kube import build, layout
from tests.kube.programs import calls, go, program

NAMES = [tool.name for tool in layout.TOOLS]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a stand-in for Go, first on PATH; an empty cache; no assets."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    return go(tmp_path / "path" / "go", "1.26.8").parent


def _built(path: Path) -> list[str]:
    """The packages that the stand-in was asked to build."""
    return [line.split()[-1] for line in calls(path) if line.startswith("build ")]


def test_every_tool_is_built_with_progress(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main() == 0
    assert layout.missing() == []
    said = capsys.readouterr().out
    minutes = sum(tool.cold_minutes for tool in layout.TOOLS)
    assert f"Kubernetes tools: 9 to build with {path / 'go'} (about {minutes:.0f} min on 2 cores, once)\n" in said
    for number, tool in enumerate(layout.TOOLS, 1):
        assert f"  [{number}/9] {tool.name} (cold: {tool.cold_minutes:g} min) … 0 s\n" in said
    assert said.endswith(f"Kubernetes tools: {layout.bin_dir()}\n")
    assert sorted(each.name for each in layout.bin_dir().iterdir()) == sorted(NAMES)
    command = next(line for line in calls(path) if line.startswith("build "))
    assert f"-trimpath -ldflags {layout.ldflags()} -o " in command


def test_a_second_run_builds_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.main()
    before = calls(path)
    capsys.readouterr()
    assert build.main() == 0
    assert calls(path) == before
    assert capsys.readouterr().out == f"Kubernetes tools: {layout.bin_dir()}\n"


def test_only_what_is_missing_is_built(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.main()
    (layout.bin_dir() / "kwok").unlink()
    (path / "calls").unlink()
    build.main()
    assert _built(path) == ["sigs.k8s.io/kwok/cmd/kwok"]
    assert "[1/1] kwok" in capsys.readouterr().out


def test_a_failure_shows_the_compiler_and_the_cure_and_the_next_run_goes_on(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = 'case "$*" in *kube-apiserver) echo "no such module" >&2; exit 1;; esac\n'
    works = 'while [ "$1" != -o ]; do shift; done; echo built > "$2"'
    go(path / "go", "1.26.8", building=fails + works)
    assert build.main() == 1
    said = capsys.readouterr().err
    assert "error: kube-apiserver did not build:\nno such module\nCure: the Go module proxy must be reachable" in said
    assert sorted(each.name for each in layout.bin_dir().iterdir()) == ["etcd", "kubectl"]
    go(path / "go", "1.26.8")
    (path / "calls").unlink()
    assert build.main() == 0
    assert len(_built(path)) == len(NAMES) - 2


def test_without_any_go_the_cure_is_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go(path / "go", "1.19.8")
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python", "echo 'No module named pip' >&2; exit 1")))
    assert build.main() == 1
    assert "or install Go 1.26 or newer yourself" in capsys.readouterr().err


def test_a_run_beside_another_waits_and_finds_it_done(path: Path) -> None:
    directory = layout.bin_dir()
    directory.mkdir(parents=True)
    with (directory.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-u", "-m", "tests.kube.build"]
        with subprocess.Popen(command, cwd=layout.HERE.parents[1], stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "  another run is building them: waiting for it\n"
            for name in NAMES:
                program(directory / name, "true")
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest = second.stdout.read()
    assert second.returncode == 0
    assert rest == f"Kubernetes tools: {directory}\n"
    assert calls(path) == []


def test_given_assets_are_used_and_nothing_is_built(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assets = tmp_path / "assets"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program(assets / name, "true")
    assert build.main() == 0
    said = capsys.readouterr()
    assert said.out == f"Kubernetes tools: taken from KUBEBUILDER_ASSETS={assets}; nothing is built\n"
    assert "kube-controller-manager, kube-scheduler, kubelet, etcdctl, etcdutl, kwok not in" in said.err
    assert "unset it" in said.err
    assert calls(path) == []
    assert not (tmp_path / "cache").exists()


def test_the_users_go_settings_do_not_change_what_is_built(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("CGO_ENABLED", "1")
    kept = path / "environment"
    writes = f'echo "$CGO_ENABLED $GOTOOLCHAIN [$GOFLAGS] $GOWORK" >> {kept}\n'
    go(path / "go", "1.26.8", building=writes + 'while [ "$1" != -o ]; do shift; done; echo built > "$2"')
    build.build_all()
    assert set(kept.read_text().splitlines()) == {"0 local [] off"}
    assert os.environ["GOFLAGS"] == "-mod=mod"
