"""A short, bounded run of the fuzzer, and its seeds as plain inputs."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tests.fuzz import readers


@pytest.mark.parametrize("seed", list(readers.seeds()), ids=range(len(list(readers.seeds()))))
def test_the_seeds_are_read(seed: bytes) -> None:
    readers.one_input(seed)


needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="needs atheris, which has builds for Linux on x86-64 and Python < 3.14 only",
)


@needs_atheris
@pytest.mark.parametrize("corpus", [True, False], ids=["corpus", "fresh corpus"])
def test_nothing_is_left_behind(tmp_path: pathlib.Path, *, corpus: bool) -> None:
    given = tmp_path / "corpus"
    given.mkdir()
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "tests.fuzz.fuzz_session", "-runs=1", *([str(given)] if corpus else [])]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert list((tmp_path / "tmp").iterdir()) == []


@needs_atheris
def test_a_short_run_finds_nothing(tmp_path: pathlib.Path) -> None:
    readers.write_seeds(tmp_path)
    command = [sys.executable, "-m", "tests.fuzz.fuzz_session", "-runs=3000", "-seed=1", "-max_len=4096"]
    command += ["-max_total_time=20", f"-artifact_prefix={tmp_path}/", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Done 3" in ended.stderr or "DONE" in ended.stderr
