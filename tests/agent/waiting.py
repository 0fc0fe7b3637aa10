"""Waiting for what code without an event of ours will do."""

import asyncio


async def until(condition, turns=20):
    """Let the loop turn until `condition()`; then `turns` more, so that what follows from it has happened too."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the condition belongs to code that knows no event of ours
            await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
