"""hub/edge/pace.py: how slow a body may be."""

from __future__ import annotations

from hub.edge.limits import EdgeLimits
from hub.edge.pace import UNASKED_S, BodyPace

LIMITS = EdgeLimits(body_grace_s=10.0, body_rate_min=1000)


def test_a_stalled_body_is_given_up_after_the_grace() -> None:
    pace = BodyPace(LIMITS, 0.0)
    assert not pace.is_too_slow(9.0)
    assert pace.is_too_slow(10.0)


def test_every_window_counts_anew() -> None:
    pace = BodyPace(LIMITS, 0.0)
    pace.received(50_000)
    assert not pace.is_too_slow(10.0)
    pace.received(5_000)
    assert pace.is_too_slow(20.0)


def test_time_without_reading_is_not_the_clients() -> None:
    pace = BodyPace(LIMITS, 0.0)
    pace.paused(1.0)
    assert not pace.is_too_slow(100.0)
    pace.resumed(100.0)
    assert not pace.is_too_slow(108.0)
    assert pace.is_too_slow(109.0)


def test_the_time_of_a_body_begins_when_it_is_asked_for() -> None:
    pace = BodyPace(LIMITS, 0.0)
    assert not any(pace.is_too_slow(float(second), is_due=False) for second in range(100))
    assert not pace.is_too_slow(108.0)
    assert pace.is_too_slow(109.0)


def test_who_is_never_asked_is_given_up() -> None:
    pace = BodyPace(LIMITS, 5.0)
    assert not pace.is_too_slow(5.0 + UNASKED_S - 0.1, is_due=False)
    assert pace.is_too_slow(5.0 + UNASKED_S, is_due=False)
