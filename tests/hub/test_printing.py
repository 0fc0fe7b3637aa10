"""Where lines go, and what becomes of them where a shell has closed a stream."""

import pytest

from hub.bootstrap import SetupError
from hub.printing import print_data, tell


def test_data_and_what_is_for_a_person_are_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_data("data")
    tell("done")
    assert capsys.readouterr() == ("data\n", "done\n")


def test_data_must_go_somewhere_and_what_is_for_a_person_need_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    tell("done")
    with pytest.raises(SetupError, match="standard output is closed"):
        print_data("data")
