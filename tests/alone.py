"""Tests that measure what the whole machine does, or need more than their share of it, run by themselves, though a run
has several processes. (A demo's clusters take 44 inotify instances of a user's 128, those of the run's fixtures 64.)

A test marked `alone` waits until the other processes of its run are between two tests, and they wait for it. Two locks
of the kernel, which frees them when a process dies: `run` is shared by tests and held whole by one that is alone;
`door` is passed by everybody, one at a time, so that nobody overtakes who waits.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = "alone"


@contextlib.contextmanager
def turn(place: Path, *, alone: bool) -> Iterator[None]:
    """Wait until this test may go on: blocks. `place`: a directory of the run's own."""
    with (place / "door").open("w") as door, (place / "run").open("w") as run:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(run, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
