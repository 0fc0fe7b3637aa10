"""proto/aio/busypoll.py: when a loop stays awake for an answer, and what it may spend on that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proto.aio.busypoll import BURST_S, SMALL_BYTES, WINDOW_S, BusyPoll, Leg, never, share_here

TURN_S = 5e-6


class Loop:
    """A clock and the calls of the next turn; each turn takes TURN_S."""

    def __init__(self, share: float = 0.25) -> None:
        self.now = 100.0
        self.calls: list[Callable[[], None]] = []
        self.spent = 0.0
        self.rests = 0
        self.poll = BusyPoll(
            share, spent=self._add, clock=lambda: self.now, rest=self._rest, call_soon=self.calls.append
        )

    def _add(self, seconds: float) -> None:
        self.spent += seconds

    def _rest(self) -> None:
        self.rests += 1

    def pass_(self, seconds: float) -> bool:
        """Whether it was awake all the time."""
        until = self.now + seconds
        while self.calls and self.now < until:
            self.now += TURN_S
            calls, self.calls[:] = tuple(self.calls), []
            for call in calls:
                call()
        is_awake = bool(self.calls)
        self.now = max(self.now, until)
        return is_awake

    def ask(self, leg: Leg, answer_s: float, *, size: int = 100) -> bool:
        """Send, and have the answer after so long. Whether the loop was awake when it came."""
        leg.sent(100)
        was_awake = self.pass_(answer_s)
        leg.arrived(size)
        return was_awake


def expects(loop: Loop, leg: Leg) -> bool:
    """Whether `leg` has learned that answers come soon."""
    return all(loop.ask(leg, WINDOW_S / 2) for _ in range(2))


def quick(loop: Loop) -> Leg:
    leg = loop.poll.leg()
    loop.ask(leg, WINDOW_S / 2)
    assert expects(loop, leg)
    return leg


def test_it_sleeps_until_an_answer_has_come_in_time() -> None:
    loop = Loop()
    leg = loop.poll.leg()
    assert not loop.ask(leg, WINDOW_S / 2)
    assert loop.ask(leg, WINDOW_S / 2)
    loop.pass_(1.0)
    assert not loop.calls


def test_the_core_is_yielded_in_each_turn_without_work() -> None:
    loop = Loop()
    leg = quick(loop)
    rests = loop.rests
    leg.sent(100)
    loop.pass_(4 * TURN_S)
    assert loop.rests == rests + 3  # what is done in the turn of the sending may be more than that
    leg.arrived(100)
    loop.pass_(TURN_S)
    assert loop.rests == rests + 3


def test_it_is_over_with_the_answer() -> None:
    loop = Loop()
    one, other = quick(loop), quick(loop)
    loop.pass_(1.0)
    spent = loop.spent
    one.sent(100)
    other.sent(100)
    other.arrived(100)
    assert loop.pass_(5 * TURN_S)
    one.arrived(100)
    loop.pass_(1.0)
    assert loop.spent - spent == pytest.approx(4 * TURN_S)


def test_late_answers_end_it() -> None:
    loop = Loop()
    leg = quick(loop)
    for _ in range(10):
        loop.ask(leg, 10 * WINDOW_S)
    assert not loop.ask(leg, WINDOW_S * 2)


def test_so_do_answers_that_never_come() -> None:
    loop = Loop()
    leg = quick(loop)
    for _ in range(10):
        leg.sent(100)
        loop.pass_(1.0)
    spent = loop.spent
    leg.sent(100)
    loop.pass_(1.0)
    assert loop.spent == spent


def test_a_transfer_is_not_waited_for() -> None:
    loop = Loop()
    leg = quick(loop)
    loop.pass_(1.0)
    leg.sent(SMALL_BYTES + 1)
    assert not loop.calls
    for _ in range(10):
        loop.ask(leg, WINDOW_S / 2, size=SMALL_BYTES + 1)  # credit for the next piece of a download
    assert not loop.ask(leg, WINDOW_S / 2, size=SMALL_BYTES + 1)


def test_now_and_then_it_tries_again() -> None:
    """An answer that would come in time may come too late for who has to be waked."""
    loop = Loop()
    leg = loop.poll.leg()
    tried = [loop.ask(leg, WINDOW_S * 1.1) or bool(loop.spent) for _ in range(8)]
    assert tried == [False] * 7 + [True]
    spent = loop.spent
    for _ in range(31):
        loop.ask(leg, WINDOW_S * 1.1)
    assert loop.spent == spent
    assert loop.ask(leg, WINDOW_S / 2)
    assert expects(loop, leg)


def test_it_costs_no_more_than_its_share() -> None:
    loop = Loop(share=0.25)
    leg = quick(loop)
    began = loop.now
    while loop.now < began + 40:
        loop.ask(leg, 0.9 * WINDOW_S)
    assert loop.spent == pytest.approx(BURST_S + 0.25 * 40, rel=0.01)


def test_work_between_two_turns_is_not_counted() -> None:
    loop = Loop()
    leg = quick(loop)
    loop.pass_(1.0)
    spent = loop.spent
    leg.sent(100)
    leg.arrived(100)
    loop.now += 0.01  # the answer's processing
    loop.pass_(1.0)
    assert loop.spent - spent <= TURN_S


def test_what_is_spent_without_a_pause_is_told_meanwhile() -> None:
    loop = Loop(share=1.0)
    leg = quick(loop)
    loop.pass_(1.0)
    spent = loop.spent
    for _ in range(2000):
        assert loop.ask(leg, WINDOW_S / 2)
    assert loop.spent - spent == pytest.approx(2000 * WINDOW_S / 2, rel=0.6)
    assert loop.calls


def test_one_side_does_not_learn_from_another() -> None:
    loop = Loop()
    quick(loop)
    other = loop.poll.leg()
    assert not loop.ask(other, 2 * WINDOW_S)


@pytest.mark.parametrize("leg", [never(), Loop(share=0.0).poll.leg()])
def test_it_may_be_off(leg: Leg) -> None:
    for _ in range(100):
        leg.sent(100)  # no loop runs: to ask for a turn would fail
        leg.arrived(100)


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, 0.5),
        ({"cpu.max": "max 100000\n"}, 0.5),
        ({"cpu.max": "50000 100000\n"}, 0.0),
        ({"cpu.max": "100000 100000\n"}, 0.5),
        ({"cpu.max": "?\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.0),
    ],
)
def test_under_a_limit_below_one_core_there_is_none(tmp_path: Path, files: dict[str, str], share: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert share_here(0.5, cores=2, cgroup=tmp_path) == share


def test_nor_with_one_core(tmp_path: Path) -> None:
    assert share_here(0.5, cores=1, cgroup=tmp_path) == 0.0
