"""What a cluster's agents may make the hub write."""

from __future__ import annotations

import dataclasses

import pytest

from hub.tunnel import writerate
from hub.tunnel.registry import Tunnel
from hub.tunnel.writerate import BURST, CLUSTERS_MAX, PARTS_A_COMMAND, PER_S, WriteRate
from proto.errors import Code, StreamReset
from tests.hub.tunnel.test_registry import Rig

PARTS_MAX = 256


def of(uid: str) -> Tunnel:
    tunnel, _ = Rig().tunnel()
    return dataclasses.replace(tunnel, identity=dataclasses.replace(tunnel.identity, cluster_uid=uid))


def taken(rate: WriteRate, tunnel: Tunnel) -> int:
    """How many commands in a row are taken."""
    for count in range(10_000):
        try:
            rate.take(tunnel)
        except StreamReset:
            return count
    raise AssertionError("no bound")


def test_a_whole_map_fits_and_a_flood_does_not() -> None:
    now = [100.0]
    rate = WriteRate(lambda: now[0])
    assert taken(rate, of("a")) == BURST >= 2 * PARTS_MAX
    with pytest.raises(StreamReset, match="too often") as caught:
        rate.take(of("a"))
    assert caught.value.code is Code.OVERLOADED
    assert taken(rate, of("b")) == BURST  # another cluster's are its own
    now[0] += 10
    assert taken(rate, of("a")) == 10 * PER_S


def test_what_has_to_be_read_costs_too() -> None:
    """Whoever registers the same full table again and again writes nothing, and has 13 MB read each time."""
    now = [100.0]
    rate = WriteRate(lambda: now[0])
    for _ in range(10):
        rate.take(of("a"))
        rate.charge(of("a"), PARTS_MAX)
    assert taken(rate, of("a")) == 0
    now[0] += PARTS_MAX / PARTS_A_COMMAND / PER_S + 1
    rate.take(of("a"))


def test_buckets_of_quiet_clusters_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writerate, "BURST", 1.0)
    now = [100.0]
    rate = WriteRate(lambda: now[0])
    tunnels = [of(str(number)) for number in range(CLUSTERS_MAX + 1)]
    for tunnel in tunnels[:CLUSTERS_MAX]:
        rate.take(tunnel)
    now[0] += 3600
    rate.take(tunnels[-1])
    assert len(rate) == 1
