"""A secret that cannot be written is not lost silently."""

import pathlib

import pytest

from ctl import errors, reveal
from tests.ctl.test_terminal import Full

MADE = {"id": "abc", "token": "riata_abc_secret"}


def test_a_file_that_cannot_be_written_names_the_token_to_revoke(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(errors.CommandError) as caught:
        reveal.token(MADE, "table", str(tmp_path / "f" / "g"), "token")
    assert "abc" in caught.value.means
    assert "secret" not in caught.value.render()


def test_a_file_that_came_meanwhile_is_not_taken_over(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").symlink_to("theirs")
    with pytest.raises(errors.CommandError, match="File exists") as caught:
        reveal.token(MADE, "table", str(tmp_path / "f"), "token")
    assert "abc" in caught.value.means
    assert not (tmp_path / "theirs").exists()


def test_names_do_not_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    reveal.token(MADE, "name", "", "token")
    captured = capsys.readouterr()
    assert captured.out == "abc\n"
    assert "not shown" in captured.err


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_token_that_standard_output_does_not_take_is_named_too(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(errors.CommandError) as caught:
        reveal.token(MADE, form, "", "token")  # type: ignore[arg-type]  # a form
    assert "abc" in caught.value.means
    assert "secret" not in caught.value.render()
