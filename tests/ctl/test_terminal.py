"""Messages and questions."""

import io
import signal

import pytest

from ctl import cli, errors, terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str, /) -> int:
        raise OSError(28, "No space left on device")


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


def test_what_standard_output_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", full := Full())
    with pytest.raises(errors.CommandError, match="standard output: No space left on device"):
        terminal.data("x")
    assert full.closed  # the interpreter does not try again at its end
    monkeypatch.setattr("sys.stderr", Full())
    terminal.say("a message is not worth an end")


@pytest.mark.parametrize("arguments", [["--help"], ["clusters"], ["--version"], ["clusters", "list", "--help"]])
def test_help_that_standard_output_does_not_take_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr("sys.stdout", Full())
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err == "riata: cannot write to standard output: No space left on device\n"


def test_streams_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    with pytest.raises(errors.CommandError, match="no standard output"):
        terminal.data("x")
    assert terminal.ask("Sure?") is None
    terminal.say("x")


def test_ctrl_c_at_a_question_ends_the_command_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Person(Tty):
        def readline(self, size: int = -1, /) -> str:
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    done = []

    async def delete(arguments: object) -> errors.Exit:
        terminal.confirm("Delete it?")
        done.append("deleted")
        return errors.Exit.OK

    monkeypatch.setattr("sys.stdin", Person())
    monkeypatch.setattr("sys.stderr", Tty())
    monkeypatch.setattr(cli, "execute", delete)
    assert cli.run(["x"]) == 130
    assert done == []


def test_a_character_that_the_locale_lacks_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert cli.run(["login", "--help"]) == 0
    terminal.data("é…")
    assert written.getvalue().endswith(b"\xe9\\u2026\n")
