"""When tunnels and watches end: in a crowd, some of them in each turn of the event loop.

A load balancer that is started anew drops thousands of tunnels in one moment, and a drain ends as many watches. To end
a session, with its streams, their clients' answers and the line of the log, takes 0.3 ms, a watch half of that; all at
once kept everybody else waiting for 1.2 s.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable
from typing import Final

TURN_S: Final = 0.005
"""Of a turn, for the ends themselves; the tasks that they wake take twice as much in the next one."""


class Endings:
    """Who comes while the turn has time left ends at once, the others in their order. A tunnel whose loss waits is what
    it was a moment before, when the loop had not yet read it, but writes no more: what is asked on it meanwhile was not
    sent, and is asked elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._left_s = TURN_S
        self._is_due = False

    def soon(self, end: Callable[[], None]) -> None:
        """Call `end` in this turn of the loop or a later one."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._waiting or self._left_s <= 0:
            self._waiting.append(end)
        else:
            self._spend(end)

    def _turn(self) -> None:
        self._left_s = TURN_S
        self._is_due = bool(self._waiting)
        if self._is_due:  # first, whatever one of them raises
            asyncio.get_running_loop().call_soon(self._turn)
        while self._waiting and self._left_s > 0:
            self._spend(self._waiting.popleft())

    def _spend(self, end: Callable[[], None]) -> None:
        began = self._clock()
        try:
            end()
        finally:
            self._left_s -= self._clock() - began
