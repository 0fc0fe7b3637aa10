"""`python -m agent`, and the script `riata-agent`."""

import os
import sys

_FOREIGN = """\
riata-agent: the Python package 'proto' that is found first belongs to another distribution (usually proto-plus): {}.
Install riata into a virtual environment of its own: python3 -m venv riata && riata/bin/pip install riata
If it has one, take the other package out of PYTHONPATH.
"""


def main() -> None:
    """Check the distribution first: see docs/adr/0002-names-and-layout.md."""
    try:
        from proto import distribution, firstprocess
    except ImportError as exc:  # nothing of `proto` can be used to say that `proto` is not ours
        sys.stderr.write(_FOREIGN.format(exc))
        sys.exit(2)
    distribution.check()
    firstprocess.end_on_sigterm()
    from agent import cli

    sys.exit(cli.main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
