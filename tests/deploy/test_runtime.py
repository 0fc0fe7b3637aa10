"""Which Python riata is compiled for, and what stands in the way."""

import os
import subprocess
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


def test_where_images_cannot_be_made_it_is_this_python(fit: Path, tmp_path: Path) -> None:
    (fit / "mmdebstrap").unlink()
    chosen = runtime.choose(tmp_path)
    assert chosen == runtime.here()
    assert chosen.root is None


def test_a_launcher_is_the_interpreter_of_scripts_and_is_written_once(tmp_path: Path) -> None:
    """Of a system whose loader only says how it was called."""
    root = tmp_path / "a root"
    for directory in ("usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/bin"):
        (root / directory).mkdir(parents=True)
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    loader.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv | grep -c ^PWD= \n')
    loader.chmod(0o755)
    launcher = tmp_path / "python"
    runtime.write_launcher(launcher, root)
    before = os.stat(launcher)
    runtime.write_launcher(launcher, root)
    assert os.stat(launcher) == before
    script = tmp_path / "script"
    script.write_text(f"#!{launcher}\n")
    script.chmod(0o755)
    said = subprocess.run([script, "an argument"], capture_output=True, text=True, check=False, env={})
    libraries = str(root / "usr/lib/x86_64-linux-gnu")
    python = str(root / "usr/bin" / f"python{debian.PYTHON}")
    assert said.stdout.split("\n")[:-2] == [
        *("--argv0", str(launcher), "--library-path", libraries, python),
        *(str(script), "an argument"),
    ]
