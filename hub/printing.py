"""What the commands of `riata-hub` print: data on stdout, everything else on stderr. A shell can have closed either."""

from __future__ import annotations

import sys

from hub.bootstrap import SetupError


def print_data(text: str) -> None:
    """A line of data. Raises SetupError where there is no stdout."""
    require_stdout()
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """A line for a person. Where nobody can get it the command goes on: what it does matters more."""
    if sys.stderr is not None:  # started with `2>&-`
        sys.stderr.write(f"{text}\n")


def require_stdout() -> None:
    """Before something is made that is shown only once, or that a script waits for. Raises SetupError."""
    if sys.stdout is None:  # started with `>&-`
        raise SetupError("standard output is closed, and nothing was done: the result would be lost; send it to a file")
