"""Entry point of `riata-hub` and `python -m hub`."""

import sys

_FOREIGN = """\
riata-hub: the Python package 'proto' that is found first belongs to another distribution (usually proto-plus): {}.
Install riata into a virtual environment of its own: python3 -m venv riata && riata/bin/pip install riata
If it has one, take the other package out of PYTHONPATH.
"""


def main() -> None:
    """Check that `proto` is ours before anything else of it is imported, then run the command line.

    See docs/adr/0002-names-and-layout.md; nothing of `proto` can be used to say that `proto` is not ours.
    """
    try:
        from proto import distribution, firstprocess
    except ImportError as exc:
        sys.stderr.write(_FOREIGN.format(exc))
        sys.exit(2)
    distribution.check()
    firstprocess.end_on_sigterm()
    from hub import cli

    sys.exit(cli.main())


if __name__ == "__main__":
    main()
