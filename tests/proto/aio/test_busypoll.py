"""proto/aio/busypoll.py: when a loop stays awake for an answer, and what it may spend on that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proto.aio.busypoll import (
    BURST_S,
    OFF_LEAST_S,
    OFF_MOST_S,
    SMALL_BYTES,
    TURN_MAX_S,
    WINDOW_S,
    BusyPoll,
    Leg,
    never,
    share_here,
)

TURN_S = 5e-6


class Loop:
    """A clock and the calls of the next turn; each turn takes TURN_S."""

    def __init__(self, share: float = 0.25) -> None:
        self.now = 100.0
        self.calls: list[Callable[[], None]] = []
        self.spent = 0.0
        self.rests = 0
        self.rest_s = 0.0
        """For how long others have the core when it is yielded."""
        self.poll = BusyPoll(
            share, spent=self._add, clock=lambda: self.now, rest=self._rest, call_soon=self.calls.append
        )

    def _add(self, seconds: float) -> None:
        self.spent += seconds

    def _rest(self) -> None:
        self.rests += 1
        self.now += self.rest_s

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
    for _ in range(255):
        loop.ask(leg, WINDOW_S * 1.1)
    assert loop.spent == spent
    assert loop.ask(leg, WINDOW_S / 2)
    assert expects(loop, leg)


def test_it_costs_no_more_than_its_share() -> None:
    loop = Loop(share=0.25)
    leg = quick(loop)
    began = loop.now
    while loop.now < began + 12:
        loop.ask(leg, 0.9 * WINDOW_S)
    assert loop.spent == pytest.approx(BURST_S + 0.25 * 12, rel=0.01)


def test_others_work_is_not_counted() -> None:
    """API pages, a stop of the whole process: no leg tells of them."""
    loop = Loop()
    leg = quick(loop)
    loop.pass_(1.0)
    spent = loop.spent
    leg.sent(100)
    loop.now += 30.0
    loop.pass_(1.0)
    assert loop.spent - spent <= 1.01 * TURN_MAX_S
    assert expects(loop, leg)


def test_nor_is_the_time_of_whoever_had_the_core() -> None:
    loop = Loop()
    leg = quick(loop)
    loop.pass_(1.0)
    spent, loop.rest_s = loop.spent, 50e-6
    leg.sent(100)
    loop.pass_(1.0)
    assert loop.spent - spent == pytest.approx(WINDOW_S * TURN_S / (TURN_S + loop.rest_s), abs=2 * TURN_S)


def test_where_others_keep_the_core_it_sleeps_for_longer_and_longer() -> None:
    loop = Loop()
    leg = quick(loop)
    tries = []
    loop.rest_s = 3e-3
    while len(tries) < 12:
        began, rests = loop.now, loop.rests
        while loop.rests == rests:
            loop.ask(leg, WINDOW_S / 2)
        tries.append(loop.now - began)
    assert tries[1] < 2 * OFF_LEAST_S
    assert tries[-1] == pytest.approx(OFF_MOST_S, rel=0.1)
    loop.rest_s = 0.0
    loop.pass_(3 * OFF_MOST_S)
    assert loop.ask(leg, WINDOW_S / 2)


def test_a_side_that_is_gone_keeps_nobody_awake() -> None:
    loop = Loop(share=1.0)
    leg, gone = quick(loop), quick(loop)
    gone.sent(100)
    loop.pass_(WINDOW_S / 2)
    loop.ask(leg, WINDOW_S / 2)
    loop.ask(leg, WINDOW_S / 2)
    began, spent = loop.now, loop.spent
    for _ in range(1000):
        assert loop.ask(leg, 10 * TURN_S)
        loop.pass_(10 * TURN_S)
    assert loop.spent - spent < 0.7 * (loop.now - began)


def test_pieces_that_nobody_answers_end_it() -> None:
    """A program's standard input: the last one is never old."""
    loop = Loop(share=1.0)
    leg = quick(loop)
    for _ in range(200):
        leg.sent(100)
        loop.pass_(WINDOW_S / 4)
    spent = loop.spent
    for _ in range(20):
        leg.sent(100)
        loop.pass_(WINDOW_S / 4)
    assert loop.spent - spent <= 1.1 * WINDOW_S  # of its next try


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
    for _ in range(10_000):
        assert loop.ask(leg, WINDOW_S / 2)
    assert loop.spent - spent == pytest.approx(10_000 * WINDOW_S / 2, abs=0.11)
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


V1 = {"cpu/cpu.cfs_period_us": "100000\n"}
OWN = "9:name=systemd:/x\n4:cpu,cpuacct:/box\n0::/slice/box\n"


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, 0.5),
        ({"cpu.max": "max 100000\n"}, 0.5),
        ({"cpu.max": "50000 100000\n"}, 0.0),
        ({"cpu.max": "100000 100000\n"}, 0.5),
        ({"cpu.max": "?\n"}, 0.5),
        (V1 | {"cpu/cpu.cfs_quota_us": "-1\n"}, 0.5),
        (V1 | {"cpu/cpu.cfs_quota_us": "50000\n"}, 0.0),
        ({"own": OWN}, 0.5),
        ({"own": OWN, "slice/box/cpu.max": "50000 100000\n"}, 0.0),
        ({"own": OWN, "slice/box/cpu.max": "max 100000\n"}, 0.5),
        ({"own": OWN, "cpu/box/cpu.cfs_quota_us": "5\n", "cpu/box/cpu.cfs_period_us": "50\n"}, 0.0),
        ({"own": OWN, "slice/other/cpu.max": "50000 100000\n"}, 0.5),
    ],
)
def test_under_a_limit_below_one_core_there_is_none(tmp_path: Path, files: dict[str, str], share: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert share_here(0.5, cores=2, cgroups=tmp_path, own=tmp_path / "own") == share


@pytest.mark.parametrize(
    ("cores", "processes", "quota", "share"),
    [(1, 1, "max", 0.0), (2, 1, "max", 0.5), (2, 2, "max", 0.0), (4, 3, "300000", 0.5), (4, 3, "200000", 0.0)],
)
def test_each_process_needs_a_core_and_one_is_left(
    tmp_path: Path, cores: int, processes: int, quota: str, share: float
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    assert share_here(0.5, processes, cores=cores, cgroups=tmp_path, own=tmp_path / "own") == share
