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
    made.pong(made.ping(100.0), 100.1)
    assert made.ping_at(has_streams=False, now=100.0) == 110.0
    assert made.ping_at(has_streams=True, now=100.0) == 102.0
    made.active(100.0)
    assert made.ping_at(has_streams=False, now=159.0) == 102.0
    assert made.ping_at(has_streams=False, now=161.0) == 110.0


def test_a_listening_side_pings_when_it_hears_nothing() -> None:
    made = Liveness(Limits(), is_listening=True)
    made.start(100.0)
    made.pong(made.ping(100.0), 100.1)
    assert made.ping_at(has_streams=False, now=100.1) == 112.5
    assert made.ping_at(has_streams=True, now=100.1) == 102.0
    made.heard(16, 110.0)
    assert made.ping_at(has_streams=False, now=110.0) == 122.5
    assert not made.is_ping_due(has_streams=False, now=122.4)
    assert made.is_ping_due(has_streams=False, now=122.5)
    made.pong(made.ping(122.5), 122.6)
    assert made.ping_at(has_streams=False, now=122.6) == 135.0  # heard nothing but its answer: not heard here


@pytest.mark.parametrize(
    ("bulk_at", "now", "is_dead"),
    [
        (99.0, 105.0, True),  # before the ping
        (103.0, 104.9, False),
        (103.0, 105.0, True),  # no longer flowing
        (104.5, 105.0, False),
        (104.5, 106.5, True),
        (114.9, 115.0, True),  # for three times as long at most
    ],
)
def test_an_answer_may_be_late_behind_bulk(bulk_at: float, now: float, is_dead: bool) -> None:
    made = alive()
    made.ping(100.0)
    made.heard(4096, bulk_at)
    made.heard(100, now)  # a keystroke or a ping of the peer is no reason to wait
    assert made.is_dead(now) is is_dead


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
