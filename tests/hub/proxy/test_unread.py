"""hub/proxy/unread.py: answers that nobody reads."""

from __future__ import annotations

from collections.abc import Callable

from hub.proxy.unread import Unread
from proto.window import Budget


class Front:
    def __init__(self, unsent: int) -> None:
        self.unsent_bytes = unsent
        self.is_aborted = False
        self.drained: Callable[[], None] | None = None

    def when_drained(self, call: Callable[[], None]) -> None:
        self.drained = call

    def abort(self) -> None:
        self.is_aborted = True
        assert self.drained is not None
        self.drained()


def test_they_count_until_they_are_read() -> None:
    budget = Budget(1000)
    unread = Unread(budget)
    front, released = Front(300), list[str]()
    unread.keep(front, lambda: released.append("read"))
    assert (budget.used, len(unread), released) == (300, 1, [])
    assert front.drained is not None
    front.drained()
    assert (budget.used, len(unread), released) == (0, 0, ["read"])


def test_the_largest_are_cut_when_the_budget_is_short_and_no_more_than_needed() -> None:
    budget = Budget(1000)
    unread = Unread(budget)
    fronts = [Front(size) for size in (100, 400, 200)]
    released: list[int] = []
    for front in fronts:
        unread.keep(front, lambda: released.append(1))
    assert unread.look() == 0
    budget.used += 250  # live streams
    assert unread.look() == 1
    assert [front.is_aborted for front in fronts] == [False, True, False]
    assert budget.used == 550
    assert len(released) == 1


def test_what_an_exchange_holds_is_counted_anew_and_forgotten_at_zero() -> None:
    budget = Budget(1000)
    unread = Unread(budget)
    holder = Front(0)
    unread.charge(holder, 300)
    unread.charge(holder, 200)
    assert (budget.used, len(unread)) == (200, 1)
    unread.charge(holder, 0)
    unread.charge(holder, 0)
    assert (budget.used, len(unread)) == (0, 0)
