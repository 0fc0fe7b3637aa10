"""hub/workers/host.py: the owner's side of a hop."""

from __future__ import annotations

import asyncio

import pytest

from hub.workers import host as hosts
from proto import errors as wire
from proto.errors import Code
from proto.messages import HttpHead
from tests.hub.workers.fakes import POST, until
from tests.hub.workers.tworig import Rig


async def test_a_slow_reader_is_felt_at_the_tunnel(rig: Rig) -> None:
    owner, stream = await rig.asked()
    owner.stream = None  # consumes nothing
    assert stream.owner is not None
    stream.owner.head(HttpHead(status=200, headers=()))
    for _ in range(64):
        stream.owner.data(memoryview(b"x" * 32_768))
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    taken = sum(len(part) for part in owner.told if isinstance(part, bytes))
    assert taken == 256 * 1024  # one window
    assert stream.credit <= taken + 128 * 1024  # and no more credit went back than one queue beyond it


async def test_the_tunnels_end_means_the_same_over_the_hop(rig: Rig) -> None:
    taken, stream = await rig.asked(POST)
    refused, other = await rig.asked(POST)
    assert stream.owner is not None
    assert other.owner is not None
    other.owner.reset(Code.DRAINING, "never taken")
    stream.owner.reset(Code.SESSION_LOST, "gone")
    await until(lambda: refused.told)
    assert taken.told == []
    assert rig.tunnel is not None
    rig.host.ended(rig.tunnel)
    await until(lambda: taken.told)
    assert (taken.told, refused.told) == ([Code.SESSION_LOST], [Code.DRAINING])
    assert not len(rig.host)


async def test_who_comes_too_late_was_not_executed(rig: Rig) -> None:
    rig.tunnel = None
    owner = rig.ask(POST)
    await until(lambda: owner.told)
    assert owner.told in ([Code.DRAINING], [Code.REFUSED])
    rig.remote.is_open = False
    assert not rig.hop.is_open
    with pytest.raises(wire.SessionLost):
        rig.ask()


async def test_a_killed_owner_is_a_lost_session(rig: Rig) -> None:
    owner, _ = await rig.asked(POST)
    await rig.host.aclose()
    await until(lambda: owner.told)
    assert owner.told == [Code.SESSION_LOST]


async def test_the_agents_refusal_of_a_full_tunnel_is_passed(rig: Rig) -> None:
    rig.link.refuses = wire.TooManyStreams("full")
    owner = rig.ask(POST)
    await until(lambda: owner.told)
    assert owner.told == [Code.REFUSED]


async def test_signs_of_life_come_by_themselves_while_streams_are_open(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "TELL_S", 0.01)
    rig.host.start()
    await rig.asked()
    rig.time += 4
    rig.link.last_received_at = rig.time - 1
    await until(lambda: rig.hop.last_received_at == rig.time - 1)


async def test_a_drain_is_heard_and_keeps_the_streams(rig: Rig) -> None:
    owner, stream = await rig.asked()
    rig.link.is_draining = True
    rig.host.draining(rig.link)  # type: ignore[arg-type]
    await until(lambda: rig.drained)
    assert rig.hop.is_draining
    assert not rig.hop.may_open
    with pytest.raises(wire.SessionDraining):
        rig.ask()
    assert stream.owner is not None
    stream.owner.head(HttpHead(status=200, headers=()))
    await until(lambda: owner.told)
    assert owner.told == [200]
