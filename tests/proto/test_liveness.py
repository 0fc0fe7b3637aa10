import pytest

from proto.limits import Limits
from proto.liveness import Liveness


def alive() -> Liveness:
    made = Liveness(Limits())
    made.start(100.0)
    return made


def test_round_trips_are_smoothed_and_the_best_is_kept() -> None:
    made = alive()
    for sent, rtt in ((100.0, 0.08), (101.0, 0.16), (102.0, 0.08)):
        assert made.pong(made.ping(sent), sent + rtt) == pytest.approx(rtt)
    assert made.rtt_s == pytest.approx(0.08 + 0.01 - 0.01 / 8)
    assert made.best_rtt_s == pytest.approx(0.08)
    assert made.answered_sent_at == 102.0
    for _ in range(8):
        made.pong(made.ping(103.0), 103.5)
    assert made.best_rtt_s == pytest.approx(0.5)  # the old minimum is forgotten


def test_only_the_oldest_ping_is_answered() -> None:
    made = alive()
    first, second = made.ping(100.0), made.ping(101.0)
    assert made.unanswered_ping_at == 100.0
    assert made.pong(second, 102.0) is None
    assert made.pong(first, 102.0) == 2.0
    assert made.pong(second, 102.0) == 1.0
    assert made.pong(second, 102.0) is None
    assert made.unanswered_ping_at is None


def test_death_comes_five_seconds_after_the_oldest_unanswered_ping() -> None:
    made = alive()
    made.ping(100.0)
    assert not made.is_dead(104.99)
    assert made.is_dead(105.0)
    assert not made.is_ping_due(has_streams=True, now=104.0)


def test_intervals() -> None:
    made = alive()
    assert made.interval(has_streams=False, now=100.0) == 10.0
    assert made.interval(has_streams=True, now=100.0) == 2.0
    made.active(100.0)
    assert made.interval(has_streams=False, now=159.0) == 2.0
    assert made.interval(has_streams=False, now=161.0) == 10.0


def test_the_timer_is_the_next_beat_ping_or_verdict() -> None:
    made = alive()
    nonce = made.ping(100.0)
    assert made.next_at(has_streams=True, now=100.0) == 101.0
    made.beat(104.5)
    assert made.next_at(has_streams=True, now=104.5) == 105.0
    made.pong(nonce, 104.6)
    assert made.next_at(has_streams=True, now=104.6) == 102.0  # overdue


def test_a_gap_beyond_the_dead_interval_is_a_stall() -> None:
    made = alive()
    assert made.beat(106.0)
    assert not made.beat(112.01)
