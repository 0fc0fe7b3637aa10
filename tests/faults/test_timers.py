"""tests/faults/timers.py: a loop that knows its timers."""

import asyncio

from tests.faults.timers import CountingLoop

CountingLoop().close()  # libuv opens a pipe with the first loop of a process, for good


async def wait(loop: CountingLoop) -> None:
    """A timer of each kind, and what each leaves."""
    due, left, cancelled = asyncio.Event(), loop.call_later(60, print), loop.call_later(60, print)
    loop.call_at(loop.time() + 0.001, due.set)
    assert loop.timers() == {"print": 2, "Event.set": 1}
    await due.wait()
    cancelled.cancel()
    assert loop.timers() == {"print": 1}
    async with asyncio.timeout(60):
        task = loop.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        assert loop.timers() == {"print": 1, "Timeout._on_timeout": 1, "_set_result_unless_cancelled": 1}
        task.cancel()
        await asyncio.wait([task])
    assert loop.timers() == {"print": 1}
    left.cancel()


def test_a_loop_knows_its_timers() -> None:
    loop = CountingLoop()
    try:
        loop.run_until_complete(wait(loop))
        assert loop.timers() == {}
    finally:
        loop.close()
