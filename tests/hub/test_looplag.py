"""hub/looplag.py: what a turn that comes late is told as."""

from __future__ import annotations

import asyncio

import pytest

from hub.looplag import measure


async def test_it_tells_by_how_much_a_turn_came_late() -> None:
    now, late, seen = 100.0, [0.0, 2.5, -0.001], list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        if not late:
            raise asyncio.CancelledError
        now += seconds + late.pop(0)

    with pytest.raises(asyncio.CancelledError):
        await measure(seen.append, lambda: now, sleep)
    assert seen == [0.0, 2.5, 0.0]
