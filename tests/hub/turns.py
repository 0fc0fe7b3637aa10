"""How often others have the event loop while something is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

R = TypeVar("R")


async def turns_of(work: Awaitable[R]) -> tuple[int, R]:
    """The turns of the loop that begin meanwhile, and what comes of it."""
    loop, count, is_over = asyncio.get_running_loop(), 0, False

    def beat() -> None:
        nonlocal count
        if not is_over:
            count += 1
            loop.call_soon(beat)

    loop.call_soon(beat)
    try:
        result = await work
    finally:
        is_over = True
    return count, result
