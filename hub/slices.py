"""Long work on the event loop, in slices: everybody's keystrokes would wait for one administrator's list."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

R = TypeVar("R")

SLICE_S: Final = 0.002
"""Of such work in one turn of the loop, for all together. By time, for a record may be large: a token names up to five
thousand clusters."""


@dataclasses.dataclass(slots=True, eq=False)
class _Turn:
    """What was worked in the present turn of a loop."""

    loop: asyncio.AbstractEventLoop
    spent_s: float = 0.0
    is_due: bool = False

    def spend(self, seconds: float) -> None:
        self.spent_s += seconds
        if not self.is_due:
            self.is_due = True
            self.loop.call_soon(self._over)

    def _over(self) -> None:
        self.spent_s, self.is_due = 0.0, False


_turns: list[_Turn] = []
"""That of the process's loop."""


async def in_slices(records: Iterable[R], clock: Callable[[], float] = time.perf_counter) -> AsyncIterator[R]:
    """Each of `records`; others have the loop in front of one where this turn's work has taken SLICE_S. Several lists
    come to their ends in the order in which they began."""
    turn = _turn()
    for record in records:
        while turn.spent_s > SLICE_S:  # noqa: ASYNC110 who waits has its turn in each, to keep the order
            await asyncio.sleep(0)
        began = clock()
        yield record
        turn.spend(clock() - began)


def _turn() -> _Turn:
    loop = asyncio.get_running_loop()
    if not _turns or _turns[0].loop is not loop:
        _turns[:] = [_Turn(loop)]
    return _turns[0]
