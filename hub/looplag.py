"""How late the event loop is: whether a hub that seems slow is a busy one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

EVERY_S: Final = 0.5


async def measure(
    observe: Callable[[float], None],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Ask the loop for a turn after EVERY_S, and tell by how many seconds it came late. For ever."""
    while True:
        due = now() + EVERY_S
        await sleep(EVERY_S)
        observe(max(now() - due, 0.0))
