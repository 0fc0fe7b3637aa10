"""Stay awake for an answer that is about to come.

When a process sleeps until its answer is there, its core sleeps with it, and to wake both takes as long as to answer: a
third of a small request through hub and agent is that (ADR 26). So a loop that has sent something goes on turning for
WINDOW_S where answers tend to come within it, and yields its core in each turn to whoever wants it. KVM does the same
for its guests (Documentation/virt/kvm/halt-polling.rst) and Go's scheduler for its goroutines; here it also has an
allowance, so that it costs no more than a share of a core.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

WINDOW_S: Final = 300e-6
"""For how long at most. KVM's own bound is 200 us, within which an agent's answer is not there on slow machines. Behind
one that takes longer, what waking costs hardly shows."""
SHARE: Final = 0.25
"""Of a core, in the long run, unless somebody wishes otherwise."""
BURST_S: Final = 2.0
"""What may be spent at once."""
SMALL_BYTES: Final = 16 * 1024
"""A larger message is part of a transfer, whose next piece comes as soon as its peer has a core for it."""
TURN_MAX_S: Final = 50e-6
"""A longer turn was not idle: it had other work, or other processes had the core."""
SLICE_S: Final = 0.001
"""Who has a yielded core for longer is no party to the answer: the scheduler's slices are some 3 ms."""
OFF_LEAST_S: Final = 0.01
"""For how long it keeps to sleeping then."""
OFF_MOST_S: Final = 1.0
"""… and in the end, when it happens again as soon as it stays awake again."""
_HALF: Final = 0.5
_WEIGHT: Final = 0.125
"""Of one answer in the chance of the next: six late ones in a row end it."""
_FIRST_TRY, _NEXT_TRY = 8, 256
"""Of so many messages whose answer is not expected in time, one is tried all the same: times change."""
_TELL_S: Final = 0.1
"""What is spent without a pause is told so often."""
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_V2: Final[tuple[str, ...]] = ("cpu.max",)
_V1: Final[tuple[str, ...]] = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def share_here(
    wish: float, processes: int = 1, *, cores: int | None = None, cgroups: Path = _CGROUPS, own: Path = _OWN
) -> float:
    """`wish` where `processes` that stay awake take nothing from anybody who is needed, 0.0 elsewhere: without a core
    more than they are the answer may not come meanwhile, and under a limit (cgroup v2, v1) below one core for each the
    time is missed later."""
    if not hasattr(os, "sched_yield") or (cores or len(os.sched_getaffinity(0))) <= processes:
        return 0.0
    return 0.0 if any(0 < quota < period * processes for quota, period in _quotas(cgroups, own)) else wish


def _quotas(cgroups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Microseconds, and of how many: of the container, which sees its own group as the root, and of the own group
    where there is no container (a service of systemd)."""
    groups = [(cgroups, _V2), (cgroups / "cpu", _V1)]
    with contextlib.suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                groups.append((cgroups / path[1:], _V2))
            elif "cpu" in controllers.split(","):
                groups.append((cgroups / "cpu" / path[1:], _V1))
    for group, files in groups:
        with contextlib.suppress(OSError, ValueError):  # no such group, or the word "max"
            quota, period = " ".join((group / file).read_text(encoding="ascii") for file in files).split()
            yield int(quota), int(period)


class BusyPoll:
    """What keeps one loop awake. For each side on which something is sent and answered there is a `Leg`."""

    def __init__(
        self,
        share: float,
        *,
        spent: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = time.monotonic,
        rest: Callable[[], None] | None = None,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`share` of a core, 0.0: never. `spent` hears of seconds that were spent awake for nothing else. `rest` yields
        the core; `call_soon` is that of the loop in which it is first needed when None."""
        self.clock = clock
        self.is_on = share > 0.0
        self._share = share
        self._spent = spent
        self._rest: Callable[[], None] = rest if rest is not None else getattr(os, "sched_yield", _not_here)
        self._call_soon = call_soon
        self._allowance_s = BURST_S
        self._allowed_at = 0.0
        self._until = 0.0
        self._turned_at = 0.0
        self._off_s = OFF_LEAST_S
        self._off_until = 0.0
        self._untold_s = 0.0
        self._is_turning = False
        self._is_idle = False
        """Nothing has happened since the last turn."""
        self._waiting: dict[Leg, None] = {}

    def leg(self) -> "Leg":
        """One side: a peer, or many that are alike."""
        return Leg(self)

    def stay(self, leg: "Leg", now: float) -> None:
        """An answer may come on `leg` within WINDOW_S."""
        self._is_idle = False
        self._allowance_s = min(self._allowance_s + (now - self._allowed_at) * self._share, BURST_S)
        self._allowed_at = now
        if self._allowance_s < WINDOW_S or now < self._off_until:
            return
        oldest = next(iter(self._waiting), leg)
        if oldest is not leg and oldest.is_late(now):  # maybe nobody is there any more
            del self._waiting[oldest]
            oldest.look(now)
        self._until = now + WINDOW_S
        self._waiting[leg] = None
        if not self._is_turning:
            self._is_turning = True
            self._turned_at = now
            self._again()

    def stir(self) -> None:
        """Something has happened: the time since the last turn was not idle."""
        self._is_idle = False

    def settled(self, leg: "Leg") -> None:
        """`leg` waits no longer."""
        self._is_idle = False
        if leg in self._waiting:
            del self._waiting[leg]
            if not self._waiting:
                self._until = 0.0

    def _again(self) -> None:
        self._is_idle = True
        if self._call_soon is None:  # kept: on Python 3.11 to ask for the loop is a system call
            self._call_soon = asyncio.get_running_loop().call_soon
        self._call_soon(self._turn)

    def _turn(self) -> None:
        now = self.clock()
        was_idle, idle_s = self._is_idle, min(now - self._turned_at, TURN_MAX_S)
        self._turned_at = now
        if was_idle:
            self._allowance_s -= idle_s
            self._untold_s += idle_s
            if self._untold_s >= _TELL_S:
                self._tell()
        if now >= self._until:
            self._sleep(now)
            return
        if was_idle:
            self._rest()
            self._turned_at = self.clock()
            if self._turned_at - now > SLICE_S:
                self._keep_off(self._turned_at)
        self._again()

    def _keep_off(self, now: float) -> None:
        """Who sleeps gets its core back when its answer comes; who has yielded it, when the other has had its slice."""
        is_again = now - self._off_until < 2 * self._off_s
        self._off_s = min(2 * self._off_s, OFF_MOST_S) if is_again else OFF_LEAST_S
        self._off_until = now + self._off_s
        self._until = 0.0

    def _sleep(self, now: float) -> None:
        self._is_turning = False
        waiting, self._waiting = self._waiting, {}
        for leg in waiting:
            leg.look(now)
        self._tell()

    def _tell(self) -> None:
        untold, self._untold_s = self._untold_s, 0.0
        self._spent(untold)


class Leg:
    """One side of a relay, and how likely it is that what is sent there is answered at once."""

    __slots__ = ("_chance", "_poll", "_sent_at", "_try_in")

    def __init__(self, poll: BusyPoll) -> None:
        self._poll = poll
        self._chance = 0.0
        self._try_in = _FIRST_TRY
        self._sent_at = 0.0
        """0.0: it waits for nothing, or no longer."""

    def sent(self, size: int) -> None:
        """A message of `size` bytes has left."""
        poll = self._poll
        if not poll.is_on:
            return
        if size > SMALL_BYTES:
            self._sent_at = 0.0
            poll.settled(self)
            return
        now = poll.clock()
        if not self._sent_at:
            self._sent_at = now
        elif self.is_late(now):
            self._late()
            self._sent_at = now
        if self._chance < _HALF:
            self._try_in -= 1
            if self._try_in > 0:
                poll.stir()
                return
            self._try_in = _NEXT_TRY
        poll.stay(self, now)

    def arrived(self, size: int) -> None:
        """A message of `size` bytes is here."""
        poll = self._poll
        if not poll.is_on:
            return
        poll.settled(self)
        sent_at, self._sent_at = self._sent_at, 0.0
        if not sent_at:
            return
        if size > SMALL_BYTES or poll.clock() - sent_at > WINDOW_S:
            self._late()
        else:
            self._chance = max(self._chance + (1.0 - self._chance) * _WEIGHT, _HALF)

    def is_late(self, now: float) -> bool:
        """Whether an answer is due for longer than anybody stays awake for it."""
        return self._sent_at > 0.0 and now - self._sent_at >= WINDOW_S

    def look(self, now: float) -> None:
        """The loop waits for it no longer."""
        if self.is_late(now):
            self._sent_at = 0.0
            self._late()

    def _late(self) -> None:
        self._chance -= self._chance * _WEIGHT


def never() -> Leg:
    """A side on which nobody stays awake."""
    return BusyPoll(0.0).leg()


def _not_here() -> None:
    """Where cores cannot be yielded nobody stays awake (`share_here`)."""
