"""Entry point of `riata-hub` and `python -m hub`."""

import sys

from proto import distribution


def main() -> None:
    """Check that `proto` is ours before anything else of it is imported, then run the command line."""
    distribution.check()
    from hub import cli

    sys.exit(cli.main())


if __name__ == "__main__":
    main()
