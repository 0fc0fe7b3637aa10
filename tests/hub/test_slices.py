"""hub/slices.py: everything comes, in order, and others have their turn meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from hub.slices import SLICE_S, in_slices


class Worker:
    """A clock that goes on while it works, and what was done in each turn of the loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns: list[list[float]] = [[]]
        self.ended: list[int] = []

    async def work(self, costs: list[float], name: int = 0) -> None:
        async for cost in in_slices(costs, lambda: self.now):
            self.now += cost * SLICE_S * 1.01
            self.turns[-1].append(cost)
        self.ended.append(name)

    def beat(self) -> None:
        """First in each turn."""
        self.turns.append([])
        asyncio.get_running_loop().call_soon(self.beat)


@pytest.mark.parametrize(
    ("costs", "turns"),
    [
        ([], [[]]),
        ([1], [[1]]),
        ([0.2] * 9, [[0.2] * 5, [0.2] * 4]),
        ([1, 0, 0, 1, 3], [[1], [0, 0, 1], [3]]),
        ([3, 3, 3], [[3], [3], [3]]),
    ],
)
async def test_the_loop_is_given_away_behind_each_slice_of_work(costs: list[float], turns: list[list[float]]) -> None:
    worker = Worker()
    asyncio.get_running_loop().call_soon(worker.beat)
    await worker.work(costs)
    assert [each for each in worker.turns if each] == [each for each in turns if each]


async def test_many_lists_have_one_slice_together() -> None:
    """One user with fifty requests would make each turn fifty times as long."""
    worker = Worker()
    asyncio.get_running_loop().call_soon(worker.beat)
    async with asyncio.TaskGroup() as group:
        for name in range(50):
            group.create_task(worker.work([0.3] * 10, name))
    assert max(map(len, worker.turns)) == 4
    assert sum(map(len, worker.turns)) == 500
    assert worker.ended == list(range(50))


async def test_a_short_list_does_not_wait_for_the_end_of_the_long_ones() -> None:
    """One user's fifty lists of a large fleet would have taken half a minute from everybody's first."""
    worker = Worker()
    asyncio.get_running_loop().call_soon(worker.beat)
    async with asyncio.TaskGroup() as group:
        for name in range(50):
            group.create_task(worker.work([1.0] * 100, name))
        await asyncio.sleep(0)
        await worker.work([1.0], 99)
        assert sum(map(len, worker.turns)) < 110
        gone = group.create_task(worker.work([1.0] * 100, 98))
        await asyncio.sleep(0)
        gone.cancel()  # who waits and leaves holds up nobody
    assert worker.ended == [99, *range(50)]
