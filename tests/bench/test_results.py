"""Kept results of the bench: the newest of each row, whatever else was run since."""

import datetime
from pathlib import Path

from tests.bench import results


def at(second: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 2, 3, 4, second, tzinfo=datetime.UTC)


def test_nothing_was_kept_yet(tmp_path: Path) -> None:
    assert results.newest(tmp_path / "none") == {}


def test_a_run_of_one_row_hides_no_other(tmp_path: Path) -> None:
    results.keep(tmp_path, {"get": {"p99 ms": 1.0, "old": 5.0}, "idle": {"MiB": 30.0}}, at(1))
    results.keep(tmp_path, {"get": {"p99 ms": 2.0}}, at(2))
    assert results.newest(tmp_path) == {"get": {"p99 ms": 2.0}, "idle": {"MiB": 30.0}}


def test_two_runs_in_one_second_are_two(tmp_path: Path) -> None:
    first = results.keep(tmp_path, {"get": {"p99 ms": 1.0}}, at(1))
    second = results.keep(tmp_path, {"get": {"p99 ms": 2.0}}, at(1).replace(microsecond=7))
    assert sorted(tmp_path.iterdir()) == [first, second]
    assert results.newest(tmp_path) == {"get": {"p99 ms": 2.0}}


def test_results_are_ignored_by_git_and_left_by_make_clean() -> None:
    root = results.KEPT.parent
    assert f"/{results.KEPT.name}/" in (root / ".gitignore").read_text().splitlines()
    clean = (root / "Makefile").read_text().partition("\nclean:")[2]
    assert clean
    assert results.KEPT.name not in clean
