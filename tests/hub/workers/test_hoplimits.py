"""hub/workers/hoplimits.py: a hop is no stricter than the tunnel behind it, and holds no more."""

from __future__ import annotations

import pytest

from hub.workers.hoplimits import hop_limits, negotiated
from proto.limits import KIB, MIB, Limits


@pytest.mark.parametrize(
    "tunnel",
    [
        Limits(),
        Limits(streams=8192, open_backlog=1),
        Limits(window_bytes=64 * KIB, window_max_bytes=64 * KIB),
        Limits(window_bytes=4 * MIB),
    ],
)
def test_of_any_tunnel(tunnel: Limits) -> None:
    limits = hop_limits(tunnel)
    assert limits.streams == tunnel.streams
    assert limits.open_backlog >= tunnel.open_backlog  # what the agent has not answered waits at the owner
    assert limits.window_max_bytes <= 512 * KIB
    assert limits.window_bytes <= tunnel.window_bytes
    assert limits.near_rtt_s == 0, "a far tunnel's first credit comes through here"
    assert limits.reset_burst > tunnel.reset_burst
    assert negotiated(limits).limits.streams == tunnel.streams
    assert negotiated(limits).pings_per_s == tunnel.ping_per_s
