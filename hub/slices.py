"""Long work on the event loop, in slices: everybody's keystrokes would wait for one administrator's list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

R = TypeVar("R")

SLICE_S: Final = 0.002
"""Of work in one turn of the loop. By time, for a record may be large: a token names up to five thousand clusters."""


async def in_slices(records: Iterable[R], clock: Callable[[], float] = time.perf_counter) -> AsyncIterator[R]:
    """Each of `records`; others have the loop in front of one where this turn's work has taken SLICE_S."""
    began = clock()
    for record in records:
        if clock() - began >= SLICE_S:
            await asyncio.sleep(0)
            began = clock()
        yield record
