"""Long work on the event loop, in slices: everybody's keystrokes would wait for one administrator's list."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

R = TypeVar("R")

SLICE_S: Final = 0.002
"""Of such work in one turn of the loop, for all together. By time, for a record may be large: a token names up to five
thousand clusters."""


class _Turn:
    """What was worked in the present turn of a loop, and who waits for one of the next."""

    __slots__ = ("_is_due", "_waiting", "loop", "spent_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.spent_s = 0.0
        self._is_due = False
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    def spend(self, seconds: float) -> None:
        self.spent_s += seconds
        self._arm()

    async def next(self, *, is_new: bool = False) -> None:
        """Return when the turn has time for one more; who comes anew goes behind those who wait."""
        while self.spent_s > SLICE_S or (is_new and self._waiting):
            is_new = False
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiting.append(waiter)
            self._arm()
            await waiter

    def _arm(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._over)

    def _over(self) -> None:
        """A new turn: it is the next one's."""
        self.spent_s, self._is_due = 0.0, False
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # cancelled
                waiter.set_result(None)
                break
        if self._waiting:
            self._arm()


_turns: list[_Turn] = []
"""That of the process's loop."""


async def in_slices(records: Iterable[R], clock: Callable[[], float] = time.perf_counter) -> AsyncIterator[R]:
    """Each of `records`; others have the loop in front of one where this turn's work has taken SLICE_S. Several lists
    have one turn after the other: a short one does not wait for the end of the long ones."""
    turn = _turn()
    await turn.next(is_new=True)
    for record in records:
        await turn.next()
        began = clock()
        yield record
        turn.spend(clock() - began)


def _turn() -> _Turn:
    loop = asyncio.get_running_loop()
    if not _turns or _turns[0].loop is not loop:
        _turns[:] = [_Turn(loop)]
    return _turns[0]
