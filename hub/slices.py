"""Long work on the event loop, in slices: everybody's keystrokes would wait for one administrator's list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

R = TypeVar("R")


async def in_slices(records: Iterable[R], size: int) -> AsyncIterator[R]:
    """Each of `records`; others have the loop in front of every one that completes `size` more."""
    for number, record in enumerate(records):
        if number % size == size - 1:
            await asyncio.sleep(0)
        yield record
