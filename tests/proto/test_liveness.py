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
    assert made.shortest_rtt_s == pytest.approx(0.08)  # and not by who asks for the whole session's


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


@pytest.mark.parametrize(
    ("heard_at", "pinged_at", "dead_at"),
    [
        (100.0, 102.0, 105.75),  # the worst case: the peer died behind its last answer
        (101.9, 102.0, 107.0),  # at the latest when the ping itself is too old
        (100.0, 100.2, 105.2),
        (90.0, 100.0, 103.75),  # it was idle until now: the silence before is no sign
    ],
)
def test_in_use_a_silence_beside_an_unanswered_ping_ends_sooner(
    heard_at: float, pinged_at: float, dead_at: float
) -> None:
    made = alive()
    made.heard(16, heard_at)
    made.ping(pinged_at)
    assert not made.is_dead(dead_at - 0.01, has_streams=True)
    assert made.is_dead(dead_at, has_streams=True)
    made.beat(dead_at - 0.5)
    assert made.next_at(has_streams=True, now=dead_at - 0.5) == dead_at
    assert made.is_dead(pinged_at + 4.99) is False  # an idle tunnel


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
        (99.5, 105.0, False),  # losses stop it for seconds
        (103.0, 108.7, False),
        (103.0, 108.75, True),  # no longer flowing
        (114.9, 115.0, True),  # for three times as long at most
    ],
)
def test_an_answer_may_be_late_behind_bulk(bulk_at: float, now: float, is_dead: bool) -> None:
    made = alive()
    made.ping(100.0)
    made.heard(4096, bulk_at)
    made.heard(100, now)  # a keystroke or a ping of the peer is no reason to wait
    assert made.is_dead(now) is is_dead


def test_an_answer_may_be_late_behind_what_we_send_ourselves() -> None:
    made = alive()
    first, second = made.ping(100.0), made.ping(100.5)
    made.pong(first, 104.0)
    made.heard(20, 104.0)
    assert not made.is_dead(109.7)  # what left between the two arrives slowly
    assert made.is_dead(109.75)
    assert not made.is_dead(109.7, has_streams=True)
    assert "unanswered for 9.2 s, nothing came for 5.7 s" in made.last_words(109.7)
    made.pong(second, 109.0)
    made.ping(109.0)
    assert made.is_dead(114.0)  # nothing was between the last two


def test_the_timer_is_the_next_beat_ping_or_verdict() -> None:
    made = alive()
    nonce = made.ping(100.0)
    assert made.next_at(has_streams=True, now=100.0) == 101.0
    made.beat(104.5)
    assert made.next_at(has_streams=True, now=104.5) == 105.0
    made.pong(nonce, 104.6)
    assert made.next_at(has_streams=True, now=104.6) == 102.0  # overdue


def test_a_verdict_that_falls_between_two_looks_is_not_put_off_by_a_beat() -> None:
    """The timer comes a hair early, and the clock is read again when it is set anew."""
    made = alive()
    made.ping(100.0)
    made.beat(104.9999)
    assert not made.is_dead(104.9999)
    assert made.next_at(has_streams=False, now=105.0001) == 105.0001
    made.heard(4096, 105.0)
    assert made.next_at(has_streams=False, now=105.1) == 105.9999  # bulk keeps it alive: looked at with each beat
    made.beat(110.1)
    assert made.next_at(has_streams=False, now=110.1) == 110.75  # and when it has paused for too long


def test_a_gap_beyond_the_dead_interval_is_a_stall() -> None:
    made = alive()
    assert made.beat(106.0)
    assert not made.beat(112.01)
