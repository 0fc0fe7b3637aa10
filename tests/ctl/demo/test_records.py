"""What a demo writes about itself, and whom it believes."""

import os
import pathlib
import stat

import msgspec
import pytest

from ctl.demo import records
from tests.ctl.demo.test_processes import GONE


def dead() -> records.Record:
    """The record of a demo whose process is gone."""
    return msgspec.structs.replace(records.own(keep=False), pid=GONE)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / f"{records.PREFIX}x"
    directory.mkdir(mode=0o700)
    return directory


def test_it_is_read_as_it_was_written_and_changed(place: pathlib.Path) -> None:
    records.write(place, records.own(keep=True))
    binding = records.Binding("riata-demo-1", "/k", "c")
    records.change(place, lambda own: msgspec.structs.replace(own, bindings=(*own.bindings, binding)))
    found = records.read(place)
    assert found is not None
    assert (found.pid, found.keep, found.bindings) == (os.getpid(), True, (binding,))
    assert stat.S_IMODE((place / records.FILE).stat().st_mode) == 0o600


def test_who_runs_is_not_dead_and_an_id_used_again_is_another_process() -> None:
    own = records.own(keep=False)
    assert not own.is_dead()
    assert dead().is_dead()
    assert msgspec.structs.replace(own, started=own.started + 1).is_dead()
    assert not msgspec.structs.replace(dead(), namespace="pid:[1]").is_dead()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"pid": "x"}', '{"pid": 1, "started": 1}'])
def test_a_directory_without_a_whole_record_is_nobodys(place: pathlib.Path, text: str | None) -> None:
    if text is not None:
        (place / records.FILE).write_text(text)
    assert records.read(place) is None


def test_no_symbolic_link_is_followed(place: pathlib.Path, tmp_path: pathlib.Path) -> None:
    records.write(place, dead())
    (tmp_path / "link").symlink_to(place)
    assert records.read(tmp_path / "link") is None
    (place / records.FILE).rename(tmp_path / "elsewhere")
    (place / records.FILE).symlink_to(tmp_path / "elsewhere")
    assert records.read(place) is None


def test_a_directory_open_to_others_is_not_believed(place: pathlib.Path) -> None:
    records.write(place, dead())
    place.chmod(0o770)
    assert records.read(place) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a directory of somebody else's")
def test_a_directory_of_another_user_is_not_believed(place: pathlib.Path) -> None:
    records.write(place, dead())
    os.chown(place, 65534, 65534)
    assert records.read(place) is None
