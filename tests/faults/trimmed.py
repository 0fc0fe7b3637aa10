"""riata-hub that gives back to the kernel, at SIGUSR1, what its allocator holds free: `python -m tests.faults.trimmed
serve …`. What its resident set grows by is then what is in use, and not the holes that handshakes have left."""

import ctypes
import signal
import sys

from hub import cli


def main() -> int:
    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGUSR1, lambda number, frame: libc.malloc_trim(0))
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
