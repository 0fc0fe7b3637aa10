"""Refuse to run when another distribution's `proto` package shadows ours."""

import importlib
import sys


def check() -> None:
    """Print the cure and raise SystemExit(2) unless the imported `proto` is riata's.

    Every `__main__` calls this before it imports anything else of `proto`. proto-plus, which Google's client
    libraries pull in, installs a top-level package `proto` too: whichever was installed last wins on disk, and
    the files of both may lie in one directory. Where they lie in two, the first on sys.path wins and this module may
    not be found at all: then the `__main__` says the same in its own words.
    """
    package = importlib.import_module("proto")
    if getattr(package, "RIATA", False) is True:
        return
    sys.stderr.write(
        "riata: the Python package 'proto' of this environment belongs to another distribution "
        f"({getattr(package, '__file__', 'unknown place')}; usually proto-plus).\n"
        "Install riata into a virtual environment of its own: python3 -m venv riata && riata/bin/pip install riata\n"
    )
    raise SystemExit(2)
