"""Cleaning up behind a demo that was killed."""

import pathlib
import shlex

import msgspec
import pytest

from ctl.demo import leftovers, records
from tests.ctl.demo.test_records import dead


def _left(root: pathlib.Path, name: str, record: records.Record | None) -> pathlib.Path:
    directory = root / f"{records.PREFIX}{name}"
    (directory / "hub").mkdir(mode=0o700, parents=True)
    directory.chmod(0o700)
    if record is not None:
        records.write(directory, record)
    return directory


def test_only_what_a_dead_demo_did_not_want_to_keep_is_removed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = _left(tmp_path, "gone", dead())
    stay = [
        _left(tmp_path, "kept", msgspec.structs.replace(dead(), keep=True)),
        _left(tmp_path, "running", records.own(keep=False)),
        _left(tmp_path, "starting", None),
    ]
    elsewhere = tmp_path / "elsewhere"
    _left(tmp_path, "moved", dead()).rename(elsewhere)
    (tmp_path / f"{records.PREFIX}link").symlink_to(elsewhere)
    leftovers.sweep(tmp_path)
    assert not gone.exists()
    assert all(directory.exists() for directory in [*stay, elsewhere / "hub"])
    assert capsys.readouterr().err == f"removed what a killed demo left: {gone}\n"


def test_a_link_inside_is_removed_and_not_followed(tmp_path: pathlib.Path) -> None:
    directory = _left(tmp_path, "gone", dead())
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (directory / "link").symlink_to(tmp_path / "precious")
    leftovers.sweep(tmp_path)
    assert not directory.exists()
    assert (tmp_path / "precious" / "file").exists()


def test_what_may_be_left_in_a_cluster_is_named_with_its_command(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binding = records.Binding("riata-demo-1a", "/home/a b/config", "admin@prod")
    _left(tmp_path, "gone", msgspec.structs.replace(dead(), bindings=(binding,)))
    leftovers.sweep(tmp_path)
    last = capsys.readouterr().err.splitlines()[-1]
    assert shlex.split(last) == [
        *("kubectl", "--kubeconfig", "/home/a b/config", "--context", "admin@prod"),
        *("delete", "clusterrolebinding", "riata-demo-1a", "--ignore-not-found"),
    ]


def test_what_was_handed_to_the_user_of_sudo_goes_too(tmp_path: pathlib.Path) -> None:
    handed = tmp_path / f"{records.PREFIX}handed"
    handed.mkdir(mode=0o700)
    (handed / "kubeconfig").touch()
    record = msgspec.structs.replace(dead(), handed=str(handed), handed_uid=handed.stat().st_uid)
    _left(tmp_path, "gone", record)
    leftovers.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
