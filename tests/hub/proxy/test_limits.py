"""hub/proxy/limits.py: what one user and one cluster may have under way (K7)."""

from __future__ import annotations

import pytest

from hub import errors
from hub.proxy.limits import Impatience, InFlight, ProxyLimits
from proto.limits import Limits


def test_bounds_and_their_release() -> None:
    counts = InFlight(ProxyLimits(per_user=2, per_cluster=3, long_per_user=1))
    counts.enter("a", "c", is_long=False)
    counts.enter("a", "c", is_long=False)
    with pytest.raises(errors.TooManyRequests):
        counts.enter("a", "c", is_long=False)
    counts.enter("b", "c", is_long=False)
    with pytest.raises(errors.TooManyRequests):
        counts.enter("b", "c", is_long=False)
    counts.enter("a", "c", is_long=True)
    with pytest.raises(errors.TooManyRequests):
        counts.enter("a", "c", is_long=True)
    counts.leave("a", "c", is_long=False)
    counts.enter("b", "c", is_long=False)
    for user, is_long in (("a", False), ("b", False), ("b", False), ("a", True)):
        counts.leave(user, "c", is_long=is_long)
    assert counts.is_empty


def test_one_user_does_not_use_up_what_an_agent_can_hold() -> None:
    counts = InFlight(ProxyLimits(long_per_user=4, long_per_user_and_cluster=2, long_per_cluster=3))
    for user, cluster in (("a", "c"), ("a", "c"), ("a", "d")):
        counts.enter(user, cluster, is_long=True)
    with pytest.raises(errors.TooManyRequests, match="to this cluster"):
        counts.enter("a", "c", is_long=True)
    counts.enter("b", "c", is_long=True)
    with pytest.raises(errors.TooManyRequests, match="the cluster has"):
        counts.enter("x", "c", is_long=True)
    counts.enter("x", "c", is_long=False)
    counts.leave("x", "c", is_long=False)
    for user, cluster in (("a", "c"), ("a", "c"), ("a", "d"), ("b", "c")):
        counts.leave(user, cluster, is_long=True)
    assert counts.is_empty


def test_a_cluster_that_answers_nothing_leaves_its_users_room_elsewhere() -> None:
    counts = InFlight(ProxyLimits(per_user=3, per_user_and_cluster=2))
    counts.enter("a", "hung", is_long=False)
    counts.enter("a", "hung", is_long=False)
    with pytest.raises(errors.TooManyRequests, match="to this cluster"):
        counts.enter("a", "hung", is_long=False)
    counts.enter("a", "well", is_long=False)
    with pytest.raises(errors.TooManyRequests, match=r"^you have too many requests under way$"):
        counts.enter("a", "well", is_long=False)
    for cluster in ("hung", "hung", "well"):
        counts.leave("a", cluster, is_long=False)
    assert counts.is_empty


def test_the_defaults_leave_room_for_short_requests() -> None:
    limits = ProxyLimits()
    assert limits.long_per_user_and_cluster < limits.long_per_user < limits.long_per_cluster
    assert limits.per_user_and_cluster * 2 < limits.per_cluster  # two users do not fill what a cluster has
    assert limits.per_user_and_cluster * 2 <= limits.per_user  # nor one hung cluster what a user has
    assert limits.cancelled_burst > limits.long_per_user  # a controller may restart
    assert limits.cancelled_burst < Limits().reset_burst  # and one user does not spend what the agent forgives all
    assert limits.long_per_cluster + limits.per_cluster <= Limits().streams


def test_who_had_not_left_gets_back_what_it_counted() -> None:
    impatience = Impatience(ProxyLimits(cancelled_burst=1, cancelled_per_s=1e-9))
    assert impatience.left("a", "c", 0.0)
    with pytest.raises(errors.TooManyRequests):
        impatience.check("a", "c", 0.0)
    impatience.stayed("a", "c")
    impatience.check("a", "c", 0.0)
    impatience.stayed("a", "c")  # no more than there was
    assert impatience.left("a", "c", 0.0)
    with pytest.raises(errors.TooManyRequests):
        impatience.check("a", "c", 0.0)
    impatience.stayed("b", "c")


def test_those_that_were_admitted_together_are_owed_together() -> None:
    """Else each moment in which there is one lets all in that come then: any rate, for who has many under way."""
    impatience = Impatience(ProxyLimits(cancelled_burst=4, cancelled_per_s=1.0))
    for _ in range(7):
        impatience.check("a", "c", 0.0)
    assert [impatience.left("a", "c", 0.0) for _ in range(7)] == [True] * 7  # three beyond the allowance
    for now in (1.0, 3.9):
        with pytest.raises(errors.TooManyRequests):
            impatience.check("a", "c", now)
    impatience.check("a", "c", 4.0)
    left = [impatience.left("b", "c", 0.0) for _ in range(100)]
    assert left == [True] * 8 + [False] * 92  # nobody owes more than another burst
    impatience.check("b", "c", 6.0)


def test_a_controller_that_restarts_twice_waits_for_seconds() -> None:
    impatience = Impatience(ProxyLimits(cancelled_burst=2_500, cancelled_per_s=50.0))
    for now in (0.0, 3.0):
        for _ in range(2_000):
            impatience.left("controller", "c", now)
    with pytest.raises(errors.TooManyRequests):
        impatience.check("controller", "c", 12.9)
    impatience.check("controller", "c", 13.1)


def test_impatience_has_a_rate_and_is_forgotten() -> None:
    impatience = Impatience(ProxyLimits(cancelled_burst=2, cancelled_per_s=1.0))
    impatience.check("a", "c", 0.0)
    impatience.left("a", "c", 0.0)
    impatience.check("a", "c", 0.0)
    impatience.left("a", "c", 0.0)
    with pytest.raises(errors.TooManyRequests):
        impatience.check("a", "c", 0.5)
    impatience.check("b", "c", 0.5)
    impatience.check("a", "c", 1.0)
    impatience.forget(1.5)
    assert impatience._buckets
    impatience.forget(2.0)
    assert not impatience._buckets


def test_a_controller_of_a_whole_fleet_that_restarts_leaves_few_requests_of_each_cluster() -> None:
    impatience = Impatience(ProxyLimits())
    clusters = [f"c{number}" for number in range(1_000)]
    for cluster in clusters:
        for _ in range(10):
            impatience.left("controller", cluster, 0.0)
    for cluster in clusters:
        impatience.check("controller", cluster, 0.0)
