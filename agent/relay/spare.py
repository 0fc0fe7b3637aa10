"""When to dial a connection to the API server that nobody waits for yet, so that the next request finds a warm one."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from proto.backoff import Backoff

TAKEN_S: Final = 1.0
"""Behind a request that took the last idle connection: most give theirs back sooner, and need no second one."""
PROVEN_S: Final = 10.0
"""A connection that was idle for so long and then lost says nothing against the next one."""


class Spare:
    """A timer over the pool's dial. Whether one is still needed then, the pool decides."""

    def __init__(self, dial: Callable[[], None], backoff: Backoff | None = None) -> None:
        """`dial` is called by the loop, once for each time that something below asked for it."""
        self._dial = dial
        self._backoff = backoff or Backoff(random.SystemRandom().random)
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._is_closed = False

    @property
    def is_due(self) -> bool:
        """A dial is coming."""
        return self._timer is not None

    def begin(self) -> None:
        """There is none yet."""
        self._arm(0.0)

    def taken(self) -> None:
        """A request took the last idle connection, or the connection of one is gone."""
        self._arm(TAKEN_S)

    def lost(self, idle_s: float) -> None:
        """The last idle connection is gone, after `idle_s` seconds without a request. An API server, or a load balancer
        before it, that closes in less than PROVEN_S what is idle is asked every half minute and behind each request."""
        if idle_s >= PROVEN_S:
            self._backoff.connected()
        self._arm(self._backoff.delay(time.monotonic()))

    def failed(self) -> None:
        """A dial failed."""
        self._arm(self._backoff.delay(time.monotonic()))

    def close(self) -> None:
        """Dial no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, delay: float) -> None:
        """The sooner one of two holds: behind a request nobody waits for the end of an outage's pause."""
        due_at = time.monotonic() + delay
        if self._is_closed or (self._timer is not None and self._due_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = due_at
        self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self._dial()
