"""The two outputs of a command: data on standard output, messages for a person on standard error."""

import sys

from ctl import errors


def data(text: str) -> None:
    """Write `text` and a newline to standard output."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A message for a person."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def ask(question: str) -> bool | None:
    """A yes or no from a person; None when nobody is there to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


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
