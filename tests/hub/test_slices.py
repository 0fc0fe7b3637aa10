"""hub/slices.py: everything comes, in order, and others have their turn meanwhile."""

from __future__ import annotations

import pytest

from hub.slices import SLICE_S, in_slices


class Worker:
    """A clock that goes on while it works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[float] = []

    def work(self, cost: float) -> None:
        self.now += cost * SLICE_S * 1.01
        self.done.append(cost)


@pytest.mark.parametrize(("costs", "turns"), [([], 0), ([1], 0), ([0.2] * 9, 1), ([1, 0, 0, 1, 3], 2), ([3, 3, 3], 2)])
def test_the_loop_is_given_away_behind_each_slice_of_work(costs: list[float], turns: int) -> None:
    worker = Worker()

    async def all_of_them() -> None:
        async for cost in in_slices(costs, lambda: worker.now):
            worker.work(cost)

    assert len(list(all_of_them().__await__())) == turns  # each is a turn given away
    assert worker.done == costs
