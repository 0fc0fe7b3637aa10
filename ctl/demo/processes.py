"""Whether a process runs, and whether it is still the same one."""

import contextlib
import os
import pathlib

_START_TIME = 19
"""Index of `starttime` (proc_pid_stat(5), field 22) behind the command's name."""


def started(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; 0 where the system does not tell; None when it does not run.

    One that ended and was not waited for (a zombie) does not run.
    """
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[_START_TIME])
    if pathlib.Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return 0


def namespace() -> str:
    """What process ids mean here: two processes that share a directory need not share them. Empty without /proc."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""
