"""`python -m agent`, and the script `riata-agent`."""

import os
import sys

from proto import distribution


def main() -> None:
    """Check the distribution first: see docs/adr/0002-names-and-layout.md."""
    distribution.check()
    from agent import cli

    sys.exit(cli.main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
