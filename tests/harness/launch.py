"""The tiny launcher: make the program that it becomes die with the process that started it.

Run as `python -I -S launch.py PARENT_PID PROGRAM ARG…`. Linux only has this: PR_SET_PDEATHSIG survives execve of an
ordinary program, and the kernel sends the signal when the starting thread ends, however it ends (SIGKILL too).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"launch: prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died between fork and prctl
        sys.exit("launch: the starting process is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
