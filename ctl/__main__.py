"""The program `riata`."""

import sys

from proto import distribution


def main() -> None:
    distribution.check()
    from ctl import cli  # after the check: a `proto` that is not ours would fail here with an ImportError

    sys.exit(cli.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
