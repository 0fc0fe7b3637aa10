"""Waiting with a bound: every wait of the end-to-end tests ends, and says what it waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def until(
    check: Callable[[], Awaitable[Answer]], *, what: str, within: float = 30.0, every: float = 0.05
) -> Answer:
    """Repeat `check` until its answer is true; return that answer.

    `within` and `every` are seconds. Raises AssertionError naming `what` and the last answer.
    """
    deadline = time.monotonic() + within
    while True:
        answer = await check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s: {what} (last answer: {answer!r})"
        await asyncio.sleep(every)
