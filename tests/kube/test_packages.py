"""What a full cluster needs from the system: found, installed by root, and what is said when it cannot be."""

import os
import sys
from pathlib import Path

import pytest

from tests.kube import namespaces, packages
from tests.kube.programs import calls, program
from tests.kube.test_busybox import LOAD, elf

ALL = ["containerd", "runc", "iproute2", "nftables", "util-linux", "mmdebstrap", "haproxy", "prometheus"]
ALL += ["debian-archive-keyring", "busybox-static", "gcc", "libc6-dev", "python3-dev", "containernetworking-plugins"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH, for root on a machine where namespaces can be made; nothing of the real one is touched."""
    directory = tmp_path / "path"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(packages, "_CNI", tmp_path / "cni" / "bridge")
    monkeypatch.setattr(packages, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "_DEBIAN_KEYS", tmp_path / "debian-archive-keyring.gpg")
    monkeypatch.setattr(packages, "_header", lambda: tmp_path / "Python.h")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(namespaces, "obstacle", lambda: None)
    return directory


def _provide(path: Path) -> None:
    for name in (*packages._PROGRAMS, packages._compiler()):
        program(path / name, "true")
    (path / "busybox").write_bytes(elf(LOAD))
    (path / "busybox").chmod(0o755)
    packages._CNI.parent.mkdir()
    packages._CNI.touch()
    packages._DEBIAN_KEYS.touch()
    packages._header().touch()


def test_every_package_is_named_by_what_is_missing(path: Path) -> None:
    assert packages.missing() == ALL
    _provide(path)
    assert packages.missing() == []


def test_headers_of_a_python_that_is_not_debians_are_not_debians(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _provide(path)
    packages._header().unlink()
    assert packages.missing() == ["python3-dev"]
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    assert packages.missing() == []


def test_a_dynamic_busybox_is_not_enough(path: Path) -> None:
    _provide(path)
    program(path / "busybox", "true")
    assert packages.missing() == ["busybox-static"]


def test_what_is_there_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _provide(path)
    program(path / "apt-get", f"echo called >> {path / 'calls'}")
    assert packages.main([]) == 0
    assert capsys.readouterr().out == "Node packages: all there\n"
    assert calls(path) == []


def test_the_missing_ones_are_installed_and_no_service_starts(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _provide(path)
    (path / "runc").unlink()
    makes = f": > {path / 'runc'}; /bin/chmod 755 {path / 'runc'}"
    program(path / "apt-get", f'echo "$@ $({packages._POLICY}; echo $?)" >> {path / "calls"}; {makes}')
    assert packages.main([]) == 0
    said = capsys.readouterr().out
    assert "Node packages: installing runc with apt-get (about half a minute)\n" in said
    assert "Node packages: installed in 0 s\n" in said
    assert calls(path) == ["update -qq 101", "install -y -qq --no-install-recommends runc 101"]
    assert not packages._POLICY.exists()


@pytest.mark.parametrize(("arguments", "code"), [([], 1), (["--advisory"], 0)])
def test_a_failure_is_fatal_or_advisory_and_names_the_cure(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    _provide(path)
    (path / "runc").unlink()
    program(path / "apt-get", "echo 'W: a warning' >&2; echo 'E: Could not resolve the mirror' >&2; exit 100")
    assert packages.main(arguments) == code
    said = capsys.readouterr().err
    assert "error: node packages are still missing: runc\n" in said
    assert "  apt-get update: W: a warning E: Could not resolve the mirror\n" in said
    assert "Cure: apt-get update && apt-get install runc; then again\n" in said
    assert ("going on without them, with light clusters only" in said) == (code == 0)
    assert not packages._POLICY.exists()


def test_an_installation_that_brings_nothing_is_a_failure(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _provide(path)
    (path / "nft").unlink()
    program(path / "apt-get", "exit 0")
    assert packages.main([]) == 1
    assert "still missing: nftables" in capsys.readouterr().err


@pytest.mark.parametrize("reason", ["a full cluster needs root", "root may not make namespaces here"])
def test_where_no_full_cluster_can_be_nothing_is_installed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: str
) -> None:
    monkeypatch.setattr(namespaces, "obstacle", lambda: reason)
    program(path / "apt-get", f"echo called >> {path / 'calls'}")
    assert packages.main([]) == 0
    assert f"no full cluster can be made here: {reason}; light ones work" in capsys.readouterr().out
    assert calls(path) == []


def test_another_distribution_is_told_what_to_install(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert packages.main([]) == 0
    assert f"no apt-get here; install these yourself for full clusters: {', '.join(ALL)}" in capsys.readouterr().out
    assert os.listdir(path) == []
