"""hub/proxy/limits.py: what one user and one cluster may have under way (K7)."""

from __future__ import annotations

import pytest

from hub import errors
from hub.proxy.limits import InFlight, ProxyLimits


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
    assert not counts._short
    assert not counts._long
    assert not counts._clusters
