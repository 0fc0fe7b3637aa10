"""What is made is kept under a hash of what it is made of, whole or not at all."""

import fcntl
import os
from pathlib import Path

import pytest

from deploy import stages


def write(directory: Path) -> None:
    (directory / "product").write_text("made")


def test_a_stage_is_made_once_and_anew_when_a_part_changes(tmp_path: Path) -> None:
    made = []

    def make(directory: Path) -> None:
        made.append(directory)
        write(directory)

    first = stages.stage(tmp_path, "thing", [b"a", b"b"], make)
    assert stages.stage(tmp_path, "thing", [b"a", b"b"], make) == first
    assert len(made) == 1
    assert (first / "product").read_text() == "made"
    assert stages.stage(tmp_path, "thing", [b"ab"], make) != first
    assert len(made) == 2


def test_what_could_not_be_made_is_not_there(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        write(directory)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        stages.stage(tmp_path, "thing", [b"a"], fail)
    assert list(tmp_path.iterdir()) == []


def test_of_each_stage_the_last_four_used_are_kept_and_what_was_used_today(tmp_path: Path) -> None:
    other = stages.stage(tmp_path, "other", [b"1"], write)
    first, *rest = [stages.stage(tmp_path, "base", [bytes([number])], write) for number in range(4)]
    stages.stage(tmp_path, "base", [b"\0"], write)  # used again
    newest = stages.stage(tmp_path, "base", [b"new"], write)
    everything = {other, first, *rest, newest}
    assert set(tmp_path.iterdir()) == everything, "a test of hours may run from one that was made a moment ago"
    for path in everything:
        a_day_ago = path.stat().st_mtime - 86_401
        os.utime(path, (a_day_ago, a_day_ago))
    stages.stage(tmp_path, "base", [b"new"], write)
    assert set(tmp_path.iterdir()) == {other, first, *rest[1:], newest}


def test_sources_are_named_and_read_and_what_was_made_of_them_is_not(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "hub/app.py", "hub/app.pyc", "hub/app.so", "more.py"):
        (tmp_path / name).write_text(f"text of {name}")
    found = stages.sources(tmp_path, ("hub",), "more.py")
    assert found[::2] == [b"pyproject.toml", b"README.md", b"LICENSE", b"more.py", b"hub/app.py"]
    assert found[-1] == b"text of hub/app.py"


def test_who_comes_second_waits(tmp_path: Path) -> None:
    with (
        stages.locked(tmp_path / "cache"),
        (tmp_path / "cache" / "lock").open("w") as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stages.cache_root("images") == tmp_path / "riata" / "images"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert stages.cache_root("images") == Path.home() / ".cache" / "riata" / "images"
