"""The two outputs of a command: data on standard output, messages for a person on standard error."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator

from ctl import errors


def settle() -> None:
    """Once, at the start: a character that the locale does not have is written by its number, as on standard error, and
    ends no command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def data(text: str) -> None:
    """Write `text` and a newline to standard output, as `writing` says."""
    with writing():
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Around what writes to standard output. CommandError when that takes nothing; BrokenPipeError, which is a silent
    end, when its reader has gone."""
    if sys.stdout is None:  # started with `>&-`
        raise errors.CommandError("there is no standard output to write to")
    try:
        yield
    except OSError as exc:
        with contextlib.suppress(OSError):
            sys.stdout.close()  # else the interpreter tries again at its end, and says so
        if isinstance(exc, BrokenPipeError):
            raise
        raise errors.CommandError(f"cannot write to standard output: {exc.strerror}") from exc


def say(text: str) -> None:
    """A message for a person. Where nobody can get it the command goes on: what it does matters more."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):
        sys.stderr.write(clean(text) + "\n")
        sys.stderr.flush()


def ask(question: str) -> bool | None:
    """A yes or no from a person; None when nobody is there to ask."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return None
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    with interruptible():
        return sys.stdin.readline().strip().lower() in {"y", "yes"}


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Around reading what a person types: Ctrl-C ends it at once. asyncio's own handler cancels the task, which learns
    of it at its next await only, and the system call of the reading starts again (PEP 475)."""
    before = signal.getsignal(signal.SIGINT)
    if before in {signal.SIG_IGN, None}:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def clean(text: str) -> str:
    """`text` without control characters but newline: what a hub or an agent reports must not drive a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def confirm(question: str) -> None:
    """Returns when a person says yes. CommandError when the answer is no, UsageError when nobody can be asked."""
    answer = ask(question)
    if answer is None:
        raise errors.UsageError("this needs a confirmation and no terminal is here to ask", cure="add --yes")
    if not answer:
        raise errors.CommandError("nothing was done")
