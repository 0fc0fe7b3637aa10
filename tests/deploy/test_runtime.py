"""Which Python riata is compiled for, and what stands in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import runtime
from deploy.images import debian


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which images can be compiled for; the directory with all its programs."""
    for name in ("mmdebstrap", "our-cc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "our-cc")
    monkeypatch.setattr(runtime, "glibc", lambda: debian.GLIBC)
    assert runtime.images_obstacle() is None
    return tmp_path


@pytest.mark.parametrize("version", ["2.42", "3.0", ""])
def test_a_newer_c_library_and_another_one_are_obstacles(
    fit: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(runtime, "glibc", lambda: version)
    assert f"it must be no newer than {debian.GLIBC}" in str(runtime.images_obstacle())


def test_an_older_one_is_none(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "glibc", lambda: "2.9")
    assert runtime.images_obstacle() is None


@pytest.mark.parametrize(("name", "cure"), [("mmdebstrap", "install mmdebstrap"), ("our-cc", "install gcc libc6-dev")])
def test_what_is_missing_is_named_with_its_cure(fit: Path, name: str, cure: str) -> None:
    (fit / name).unlink()
    assert cure in str(runtime.images_obstacle())


def test_a_compiler_without_a_c_library_is_told_from_none(fit: Path) -> None:
    (fit / "our-cc").write_text("#!/bin/sh\nexit 1\n")
    assert "(our-cc) does not find stdio.h: apt-get install gcc libc6-dev" in str(runtime.images_obstacle())


def test_a_compiler_may_be_a_command(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "our-cc -m64")
    assert runtime.images_obstacle() is None
    monkeypatch.setenv("CC", "cache our-cc")
    assert "no C compiler (cache)" in str(runtime.images_obstacle())


def test_where_images_cannot_be_made_it_is_this_python(fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "here_obstacle", lambda: None)
    (fit / "mmdebstrap").unlink()
    chosen, why = runtime.choose(fit)
    assert chosen == runtime.here()
    assert chosen.root is None
    assert why == "mmdebstrap is missing: apt-get install mmdebstrap (Debian)"


@pytest.mark.parametrize(
    "error", [debian.BuildError("no mirror"), OSError("no mirror"), subprocess.TimeoutExpired("no mirror", 1)]
)
def test_what_only_the_attempt_shows_is_no_end_either(
    fit: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_cache: Path) -> runtime.Runtime:
        raise error

    monkeypatch.setattr(runtime, "of_images", fail)
    monkeypatch.setattr(runtime, "here_obstacle", lambda: None)
    assert "no mirror" in runtime.choose(fit)[1]
    monkeypatch.setattr(runtime, "here_obstacle", lambda: "no Python.h: apt-get install python3-dev")
    with pytest.raises(debian.BuildError, match=r"no mirror.*; no Python.h: apt-get install python3-dev"):
        runtime.choose(fit)


def test_a_launcher_is_what_scripts_begin_with_and_adds_nothing_to_their_environment(tmp_path: Path) -> None:
    """Of a system whose loader only says how it was called."""
    root = tmp_path / "a root"
    for directory in ("usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/bin"):
        (root / directory).mkdir(parents=True)
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    loader.write_text(f"#!{sys.executable} -I\nimport os, sys\nprint(*sys.argv[1:], *os.environ, sep='\\n')\n")
    loader.chmod(0o755)
    launcher = tmp_path / "python"
    runtime.write_launcher(launcher, root)
    before = os.stat(launcher)
    runtime.write_launcher(launcher, root)
    assert os.stat(launcher) == before
    assert sorted(tmp_path.iterdir()) == [root, launcher]
    script = tmp_path / "script"
    script.write_text(f"#!{launcher}\n")
    script.chmod(0o755)
    said = subprocess.run([script, "an argument"], capture_output=True, text=True, check=False, env={"ONE": "1"})
    libraries = str(root / "usr/lib/x86_64-linux-gnu")
    python = str(root / "usr/bin" / f"python{debian.PYTHON}")
    assert [line for line in said.stdout.splitlines() if line != "LC_CTYPE"] == [  # which Python sets
        *("--argv0", str(launcher), "--library-path", libraries, python),
        *(str(script), "an argument", "ONE"),
    ]
