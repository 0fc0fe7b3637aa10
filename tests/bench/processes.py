"""CPU time and memory of a process, read from /proc."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


def cpu_seconds(pid: int) -> float:
    """Return user and system time of all threads of a process so far, in seconds (resolution 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_bytes(pid: int) -> int:
    """Return the resident set of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")


def busy_share() -> tuple[float, float]:
    """Return (busy, total) CPU seconds of the machine so far; a difference of two tells what else was running."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / _TICKS, sum(fields[:8]) / _TICKS


def children_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended: the load clients."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def share_cores(first: Iterable[int], *others: int) -> None:
    """Give the processes of `first` one core together and `others` the rest: a hub, say, and agents, which are other
    machines (facts/security.md §3). Nothing where there is only one. Threads that a process has already stay free."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for pid in first:
            os.sched_setaffinity(pid, cores[:1])
        for pid in others:
            os.sched_setaffinity(pid, cores[1:])
