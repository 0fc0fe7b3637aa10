"""Answers that are complete here and not yet read by their clients.

Their streams have ended, so no session counts them any more; their bytes are still this process's. They keep their
place among their user's requests, count against the budget of all tunnels, and are the first to be cut when it is
nearly used up: a client that does not read an answer it asked for costs others least (P11).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proto.window import CUT_MARK, Budget


class Holder(Protocol):
    """Who holds bytes that its client has not read."""

    def abort(self) -> None: ...


class Front(Holder, Protocol):
    """What is needed of a client's connection (hub.edge.application.Front)."""

    @property
    def unsent_bytes(self) -> int: ...

    def when_drained(self, call: Callable[[], None]) -> None: ...


class Unread:
    """The fronts that still hold an answer, and the exchanges that still hold a compressed one."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._sizes: dict[Holder, int] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def keep(self, front: Front, released: Callable[[], None]) -> None:
        """Count what `front` holds until its client has read or left; `released` is called then."""
        self.charge(front, front.unsent_bytes)

        def drained() -> None:
            self.charge(front, 0)
            released()

        front.when_drained(drained)

    def charge(self, holder: Holder, size: int) -> None:
        """Count `size` bytes for `holder` from now on; 0 forgets it."""
        self._budget.used += size - self._sizes.pop(holder, 0)
        if size:
            self._sizes[holder] = size

    def look(self) -> int:
        """Cut the largest while the budget is nearly used up; how many."""
        if not self._budget.is_pressed:
            return 0
        doomed = 0
        expected = self._budget.used  # what is aborted leaves the count when its connection is lost
        for holder, size in sorted(self._sizes.items(), key=lambda item: item[1], reverse=True):
            if expected < self._budget.limit * CUT_MARK:
                break
            holder.abort()
            expected -= size
            doomed += 1
        return doomed
