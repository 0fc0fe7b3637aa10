"""Messages and questions."""

import io

import pytest

from ctl import errors, terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "yes"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, yes: bool) -> None:
    monkeypatch.setattr("sys.stdin", Tty(answer))
    monkeypatch.setattr("sys.stderr", Tty())
    assert terminal.ask("Sure?") is yes
    if not yes:
        with pytest.raises(errors.CommandError, match="nothing was done"):
            terminal.confirm("Sure?")


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert terminal.ask("Sure?") is None
    with pytest.raises(errors.UsageError):
        terminal.confirm("Sure?")


def test_control_characters_do_not_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a\x1b[2J\r\nb\x9b\u202e")
    assert capsys.readouterr().err == "a�[2J�\nb��\n"
