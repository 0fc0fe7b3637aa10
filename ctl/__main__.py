"""The program `riata`."""

import sys

_FOREIGN = """\
riata: the Python package 'proto' that is found first belongs to another distribution (usually proto-plus): {}.
Install riata into a virtual environment of its own: python3 -m venv riata && riata/bin/pip install riata
If it has one, take the other package out of PYTHONPATH.
"""


def main() -> None:
    """Check the distribution first: see docs/adr/0002-names-and-layout.md."""
    try:
        from proto import distribution
    except ImportError as exc:  # nothing of `proto` can be used to say that `proto` is not ours
        sys.stderr.write(_FOREIGN.format(exc))
        sys.exit(2)
    distribution.check()
    from ctl import cli  # after the check: a `proto` that is not ours would fail here with an ImportError

    cli.leave(cli.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
