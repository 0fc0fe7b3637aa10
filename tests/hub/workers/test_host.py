"""hub/workers/host.py: the owner's side of a hop."""

from __future__ import annotations

import asyncio

import pytest

from hub.workers import host as hosts
from proto import errors as wire
from proto.aio.linkstream import LinkStream
from proto.errors import Code
from proto.messages import Accepted, HttpHead
from tests.hub.workers.fakes import POST, FakeOwner, until
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
    assert owner.size == 256 * 1024  # one window
    assert stream.credit <= owner.size + 128 * 1024  # and no more credit went back than one queue beyond it


async def test_the_tunnels_end_means_the_same_over_the_hop(rig: Rig) -> None:
    taken, _ = await rig.asked(POST)
    refused, other = await rig.asked(POST)
    assert other.owner is not None
    other.owner.reset(Code.DRAINING, "never taken")
    rig.end_tunnel()
    await until(lambda: taken.told and refused.told)
    assert (taken.told, refused.told) == ([Code.SESSION_LOST], [Code.DRAINING])
    await until(lambda: not len(rig.host))


async def test_an_answer_that_came_with_the_tunnels_end_is_one(rig: Rig) -> None:
    """An agent that drains says goodbye behind its last answer: one read may bring both."""
    owner, stream = await rig.asked(POST)
    assert owner.stream is not None
    owner.stream.end()
    assert stream.owner is not None
    stream.owner.accepted(Accepted())
    stream.owner.head(HttpHead(status=201, headers=()))
    stream.owner.data(memoryview(b"made"))
    stream.owner.end()
    rig.end_tunnel()
    await until(lambda: not len(rig.host))
    assert owner.told == ["accepted", 201, b"made", "end"]


async def answered_slowly(rig: Rig) -> tuple[FakeOwner, LinkStream]:
    """One that reads nothing of its answer, which is whole when the tunnel ends; and its stream."""
    owner, stream = await rig.asked()
    handle, owner.stream = owner.stream, None
    assert stream.owner is not None
    stream.owner.head(HttpHead(status=200, headers=()))
    for _ in range(16):
        stream.owner.data(memoryview(b"x" * 32_768))
    stream.owner.end()
    assert handle is not None
    return owner, handle


async def test_who_reads_slowly_gets_a_whole_answer_and_nobody_else_waits_for_that(rig: Rig) -> None:
    slow, handle = await answered_slowly(rig)
    lost, _ = await rig.asked(POST)
    rig.end_tunnel()
    await until(lambda: lost.told)
    assert lost.told == [Code.SESSION_LOST]
    assert not rig.hop.is_open
    with pytest.raises(wire.SessionLost):
        rig.ask()
    await until(lambda: slow.size == 256 * 1024)  # one window
    slow.stream = handle
    handle.consumed(slow.size)
    await until(lambda: slow.told[-1] == "end")
    assert slow.size == 512 * 1024
    await until(lambda: not len(rig.host))


async def test_who_does_not_read_holds_a_hop_for_seconds_only(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "LEAVE_S", 0.01)
    slow, _ = await answered_slowly(rig)
    rig.end_tunnel()
    await until(lambda: slow.told[-1:] == [Code.SESSION_LOST])
    await until(lambda: not len(rig.host))


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
    assert rig.tunnel is not None
    rig.host.draining(rig.tunnel)
    await until(lambda: rig.drained)
    assert rig.hop.is_draining
    assert rig.hop.owners() == [owner]
    assert not rig.hop.may_open
    with pytest.raises(wire.SessionDraining):
        rig.ask()
    assert stream.owner is not None
    stream.owner.head(HttpHead(status=200, headers=()))
    await until(lambda: owner.told)
    assert owner.told == [200]
