"""The wheel that the Dockerfiles install."""

import zipfile
from pathlib import Path

import pytest

from deploy import runtime, wheel
from deploy.images import wheels
from deploy.images.base import REPOSITORY
from deploy.images.debian import BuildError


def test_where_nothing_can_be_compiled_it_says_so_and_makes_one_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "here_obstacle", lambda: "no C compiler (cc): apt-get install gcc libc6-dev")
    assert wheel.main([str(tmp_path)]) == 0
    (made,) = tmp_path.glob("*.whl")
    said = capsys.readouterr()
    assert said.err == (
        "Wheel: not compiled, which costs half more CPU: no C compiler (cc): apt-get install gcc libc6-dev\n"
    )
    assert said.out == f"Wheel: {made}\n"
    assert made.name.endswith("-py3-none-any.whl")
    assert "hub/app.py" in zipfile.ZipFile(made).namelist()


def test_where_it_can_be_compiled_it_is_and_what_goes_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Path, Path, bool]] = []

    def build(repository: Path, directory: Path, *, is_compiled: bool) -> Path:
        asked.append((repository, directory, is_compiled))
        raise BuildError("hatchling: mypyc: no")

    monkeypatch.setattr(runtime, "here_obstacle", lambda: None)
    monkeypatch.setattr(wheels, "build_wheel", build)
    assert wheel.main([str(tmp_path)]) == 1
    assert asked == [(REPOSITORY, tmp_path, True)]
    assert capsys.readouterr().err == "error: hatchling: mypyc: no\n"
