"""Byte credit and rates: what bounds every buffer and every flood. Pure arithmetic on integers and given times."""

from typing import Final

from proto import limits as bounds

CREDIT_MAX: Final = 2**31 - 1
"""Credit that one side may hold; a WINDOW that lifts it higher is an error."""

GROWTH_MARK: Final = 0.5
CUT_MARK: Final = 0.8
CROWDED_SHARE: Final = 0.125
SHARED: Final = 4
"""So many streams and more have the least window each where hub and agent are in one place; two have twice as much."""
LATELY_BYTES: Final = 1024 * 1024
CROWDED_BYTES: Final = 16 * 1024 * 1024


class Bucket:
    """Token bucket: `burst` at once, `per_s` in the long run. The level may go negative: how deep shows persistence."""

    __slots__ = ("_at", "burst", "level", "per_s")

    def __init__(self, burst: float, per_s: float) -> None:
        self.burst = burst
        self.per_s = per_s
        self.level = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one token; tell whether it was there. A refused one is owed too, down to one burst below zero."""
        self._refill(now)
        self.level = max(self.level - 1.0, -self.burst - 1.0)
        return self.level >= 0.0

    def spend(self, now: float) -> bool:
        """Take one token if it is there, and tell whether it was; owe nothing otherwise."""
        self._refill(now)
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True

    def give_back(self) -> None:
        """Undo a `spend` that took one."""
        self.level = min(self.level + 1.0, self.burst)

    def is_empty(self, now: float) -> bool:
        """Tell whether the next `take` would be refused."""
        self._refill(now)
        return self.level < 1.0

    def is_full(self, now: float) -> bool:
        """Tell whether nothing is owed or spent any more."""
        self._refill(now)
        return self.level >= self.burst

    def _refill(self, now: float) -> None:
        if now > self._at:
            self.level = min(self.burst, self.level + (now - self._at) * self.per_s)
            self._at = now


class Budget:
    """Received and unconsumed bytes of all sessions of a process, against its limit.

    While it is crowded fresh streams start with little credit; over half of it no window grows; over 80 % each session
    resets its largest streams that nobody reads (P11).
    """

    __slots__ = ("_crowded_at", "limit", "promised", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.promised = 0
        """Windows of the streams that are moving much: what `used` grows to when all their readers stop."""
        self._crowded_at = min(CROWDED_BYTES, limit * CROWDED_SHARE)

    @property
    def is_crowded(self) -> bool:
        """So many streams are moving much that windows as usual would take too much of the memory if all were to stop:
        a thousand slow readers shall hold no more than a quarter of a gigabyte (facts/security.md R16)."""
        return self.promised >= self._crowded_at or self.used >= self._crowded_at

    def may_begin_with(self, size: int) -> bool:
        """Whether a stream may start with a window of `size`, above the usual: half way to being crowded none does."""
        return self.promised + size <= self._crowded_at / 2

    @property
    def may_grow(self) -> bool:
        return self.used < self.limit * GROWTH_MARK

    @property
    def is_pressed(self) -> bool:
        return self.used >= self.limit * CUT_MARK


class SessionCredit:
    """DATA bytes of the whole session, one direction each way.

    The receiving side returns credit on receipt, in steps of half the window: it bounds what is in flight, not what
    is buffered; buffering is bounded by the streams' own windows.
    """

    __slots__ = ("receive_left", "send_left", "unreturned", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.send_left = window
        self.receive_left = window
        self.unreturned = 0

    def is_due(self) -> bool:
        """Tell whether a WINDOW for stream 0 should leave."""
        return self.unreturned * 2 >= self.window

    def take_increment(self) -> int:
        """Return the increment of that WINDOW and count it as given."""
        increment = self.unreturned
        self.unreturned = 0
        self.receive_left += increment
        return increment


class Movers:
    """How many streams of a session move much: so many were granted credit while it handed on one of the last two MiB.

    Counted, and not told from the share that each has: where credit decides that, who has more would keep it by it.
    """

    __slots__ = ("_before", "_count", "_now", "lately")

    def __init__(self) -> None:
        self._now = 0
        self._count = self._before = 0
        self.lately = 0
        """0 as long as nobody was granted credit in an earlier MiB."""

    def note(self, last: int, consumed: int) -> int:
        """A stream is granted credit after `consumed` bytes of all streams; `last` is what this returned for it before,
        0 at first."""
        now = consumed // LATELY_BYTES + 1
        if now != self._now:
            self._now, self.lately = now, max(self._count, self._before)
            self._before, self._count = self._count, 0
        if last != now:
            self._count += 1
        return now


class Growth:
    """How far the windows of one session have grown together: `extra` bytes above their start size."""

    __slots__ = ("_allowance", "_budget", "_largest", "_limits", "extra", "start")

    def __init__(self, limits: bounds.Limits, start: int, session_window: int, budget: Budget | None) -> None:
        self._limits = limits
        self._budget = budget
        self._allowance = int(session_window * limits.growth_share)
        self.start = start
        self._largest = start
        self.extra = 0

    def first_size(self, most: int, rtt_s: float | None) -> int:
        """Return the window of a fresh list, `most` bytes at most: what the way has needed before, if it is long."""
        size = self.start
        if rtt_s is not None and rtt_s >= self._limits.far_rtt_s:
            size = min(self._largest, max(self._limits.far_window_bytes, size), most)
            if size > self.start and not self._take_first(size):
                size = self.start
        return min(size, most)

    def next_size(self, size: int, elapsed: float, rtt_s: float | None, most: int = CREDIT_MAX) -> int:
        """Return the window that follows `size` when half of it was used up `elapsed` seconds after the last grant; no
        more than `most`."""
        if size > most:
            self.release(size)
            self.extra += max(most - self.start, 0)
            return most
        if rtt_s is None or elapsed >= self._limits.growth_round_trips * rtt_s:
            return size
        if size < self.start:
            grown = min(size * 4, self.start, most)  # it began small: others hold much, here or in another worker
        else:
            grown = min(size * 2, max(self._limits.window_max_bytes, self.start), most)
        added = max(grown, self.start) - max(size, self.start)
        if grown <= size or not self._take(added):
            return size
        self._largest = max(self._largest, grown)
        return grown

    def _take_first(self, size: int) -> bool:
        """The same for a fresh window: half of the room is kept for those that prove their need."""
        if self.extra + size - self.start > self._allowance // 2:
            return False
        if self._budget is not None and not self._budget.may_begin_with(size):
            return False
        return self._take(size - self.start)

    def _take(self, added: int) -> bool:
        """Count what goes beyond the start size, if there is room for it."""
        if self.extra + added > self._allowance or (self._budget is not None and not self._budget.may_grow):
            return False
        self.extra += added
        return True

    def release(self, size: int) -> None:
        """A window of `size` ended or shrank to its start."""
        if size > self.start:
            self.extra -= size - self.start
