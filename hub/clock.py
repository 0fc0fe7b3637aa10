"""Wall-clock time as a value that is passed in, so that expiry is tested without waiting."""

import datetime
import functools
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since the epoch, UTC."""


def wall_clock() -> float:
    """The real clock; only composition roots name it."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def rfc3339(seconds: float) -> str:
    """`2026-11-25T04:00:00Z`: whole seconds, UTC, the form of the API and of stored records."""
    return _written(int(seconds))


@functools.lru_cache(maxsize=8192)
def _written(second: int) -> str:
    """Kept: a list of a thousand clusters has 12,000 times in it, most of them of a few thousand seconds."""
    return f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
