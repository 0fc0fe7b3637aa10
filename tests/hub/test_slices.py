"""hub/slices.py: everything comes, in order, and others have their turn meanwhile."""

from __future__ import annotations

import pytest

from hub.slices import in_slices


@pytest.mark.parametrize(("count", "turns"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2)])
def test_the_loop_is_given_away_once_a_slice(count: int, turns: int) -> None:
    found: list[int] = []

    async def all_of_them() -> None:
        found.extend([each async for each in in_slices(range(count), 4)])

    assert len(list(all_of_them().__await__())) == turns  # each is a turn given away
    assert found == list(range(count))
