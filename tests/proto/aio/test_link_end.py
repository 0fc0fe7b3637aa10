"""How links end: goodbyes, drains, losses (continues test_link)."""

import asyncio
import gc
import weakref

import pytest

from proto import errors, frames
from proto.aio.link import Link
from proto.aio.transport import pipe
from proto.errors import Code
from proto.events import EndKind
from proto.messages import StreamClass, StreamKind
from proto.session import Role, Session
from tests.proto.aio.fakes import OK, POST, Counts, Owner, Wire, handle
from tests.proto.pair import shake


async def test_close_resets_owners_before_it_returns_and_says_goodbye() -> None:
    async with Wire() as wire:
        asked = wire.open()
        await wire.rest()
        wire.hub.close(Code.REVOKED, "credential revoked")
        assert asked.fate == (Code.SESSION_LOST, "credential revoked")
        assert (await wire.ends_with(wire.hub_run)).kind is EndKind.LOCAL
        reason = await wire.ends_with(wire.agent_run)
        assert (reason.kind, reason.code, reason.text) == (EndKind.PEER, Code.REVOKED, "credential revoked")
        assert wire.ends[0].close_code == 1000
        assert wire.agent.end_reason == reason
        assert not wire.hub.is_open
        with pytest.raises(errors.SessionLost):
            wire.open()


async def test_a_link_that_is_closed_before_it_runs_still_says_goodbye() -> None:
    wire = Wire()
    wire.hub.close(Code.SUPERSEDED)
    async with wire:
        assert (await wire.ends_with(wire.hub_run)).kind is EndKind.LOCAL
        assert (await wire.ends_with(wire.agent_run)).code is Code.SUPERSEDED


async def test_drain_waits_for_what_runs() -> None:
    async with Wire() as wire:
        asked = wire.open()
        await wire.rest()
        wire.agent.send_drain(30.0, Code.DRAINING, "rollout")
        drained = wire.group.spawn(wire.agent.drained(), name="drained")
        await wire.rest()
        assert wire.drains == ["rollout"]
        assert wire.hub.is_draining
        assert wire.agent.is_draining
        assert not drained.done()
        with pytest.raises(errors.SessionDraining):
            wire.open()
        handle(wire.taken[0]).head(OK, end=True)
        await wire.rest()
        assert asked.status == 200
        assert drained.done()
        await wire.hub.drained()
        wire.agent.close(Code.CLOSED)
        await wire.ends_with(wire.hub_run)


async def test_streams_that_the_peer_cannot_carry_on_are_lost_and_the_others_live() -> None:
    async with Wire() as wire:
        lost, other = wire.open(POST, end=False), wire.open()
        await wire.rest()
        held = wire.open()
        wire.hub.lose([handle(lost).id, handle(held).id, 998], "gone")
        assert lost.fate == (Code.SESSION_LOST, "gone")
        assert held.fate is None  # the peer does not know it yet
        await wire.rest()
        assert wire.taken[0].fate == (Code.CANCELLED, "")
        for taken in wire.taken[1:]:
            handle(taken).head(OK, end=True)
        await wire.rest()
        assert (other.status, held.status) == (200, 200)


async def test_emptied_waits_for_streams_and_for_what_is_queued() -> None:
    async with Wire() as wire:
        wire.open()
        await wire.rest()
        emptied = wire.group.spawn(wire.agent.emptied(), name="emptied")
        await wire.rest()
        assert not emptied.done()
        handle(wire.taken[0]).reset(Code.REFUSED, "no")
        assert not wire.agent.streams
        assert wire.agent.session.has_output
        await wire.rest()
        assert emptied.done()
        wire.hub.close(Code.CLOSED)
        await wire.ends_with(wire.agent_run)
        await wire.agent.emptied()


async def test_drained_returns_when_the_session_dies() -> None:
    async with Wire() as wire:
        wire.open()
        waiting = wire.group.spawn(wire.hub.drained(), name="drained")
        await wire.rest()
        wire.ends[1].abort()
        await asyncio.wait_for(waiting, 30)


@pytest.mark.parametrize("end", ["abort", "close"])
async def test_the_loss_of_the_transport_is_heard_by_every_owner(end: str) -> None:
    async with Wire() as wire:
        asked = [wire.open() for _ in range(3)]
        await wire.rest()
        if end == "abort":
            wire.ends[1].abort()
        else:
            await wire.ends[1].close(1000, "")
        for run in (wire.hub_run, wire.agent_run):
            assert (await wire.ends_with(run)).kind is EndKind.TRANSPORT
        assert {owner.fate[0] for owner in [*asked, *wire.taken] if owner.fate} == {Code.SESSION_LOST}
        assert len([owner for owner in asked if owner.fate]) == 3


async def test_cancelling_a_link_resets_its_streams_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with Wire() as wire:
        asked = wire.open()
        await wire.rest()
        wire.hub_run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wire.hub_run
        assert asked.fate == (Code.SESSION_LOST, "the link was cancelled")
        assert (await wire.ends_with(wire.agent_run)).kind is EndKind.TRANSPORT
    assert asyncio.all_tasks() == before


async def test_a_peer_that_breaks_the_protocol_is_told_and_cut() -> None:
    end, raw = pipe()
    link = Link(Session(Role.HUB, shake()[0]), end, on_open=lambda *_: None, name="hub")
    async with asyncio.timeout(30):
        await raw.send(b"\x00" * 8)
        reason = await link.run()
        assert (reason.kind, reason.code) == (EndKind.PROTOCOL, Code.PROTOCOL)
        assert end.close_code == 1002


async def test_a_peer_that_never_reads_does_not_hold_the_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who keeps a list of links hears of the end at once, behind the owners of its streams."""
    monkeypatch.setattr("proto.aio.link.GOODBYE_S", 0.01)
    end, _raw = pipe(limit=100)
    owner = Owner()
    heard: list[tuple[Code, str] | None] = []
    link = Link(
        Session(Role.HUB, shake()[0]),
        end,
        on_open=lambda *_: None,
        on_end=lambda: heard.append(owner.fate),
        name="hub",
    )
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        run = group.create_task(link.run())
        await asyncio.sleep(0)
        owner.stream = link.open(POST, owner, kind=StreamKind.HTTP, cls=StreamClass.BULK)
        owner.stream.send(b"x" * 200_000)
        await asyncio.sleep(0)
        link.close(Code.CLOSED)
        assert heard == [(Code.SESSION_LOST, "")]
        assert not run.done()
        assert (await run).kind is EndKind.LOCAL
    assert len(heard) == 1


async def test_a_cancelled_link_tells_of_its_end_too() -> None:
    heard: list[bool] = []
    end, _raw = pipe()
    link = Link(
        Session(Role.HUB, shake()[0]), end, on_open=lambda *_: None, on_end=lambda: heard.append(True), name="hub"
    )
    run = asyncio.ensure_future(link.run())  # noqa: TID251
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert heard == [True]


@pytest.mark.parametrize("what", ["observer", "on_end"])
async def test_whoever_fails_at_the_end_does_not_keep_the_link(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Else nobody drops the transport, and who waits for `run` to begin a new session waits for ever."""

    class Broken(Counts):
        def refused(self, reason: str) -> None:
            raise RuntimeError("broken")

    heard: list[bool] = []

    def ended() -> None:
        heard.append(True)
        if what == "on_end":
            raise RuntimeError("broken")

    end, raw = pipe()
    session = Session(Role.HUB, shake()[0])
    observer = Broken() if what == "observer" else None
    link = Link(session, end, on_open=lambda *_: None, on_end=ended, observer=observer, name="hub")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        run = group.create_task(link.run())
        await asyncio.sleep(0)
        session.refusals["kind"] = 1
        raw.abort()
        for _ in range(4):
            await asyncio.sleep(0)
        assert run.done()
    assert run.result().kind is EndKind.TRANSPORT
    assert heard == [True]
    assert [record.message for record in caplog.records] == ["delivery failed"]


async def test_a_session_that_has_ended_is_freed_without_the_garbage_collector() -> None:
    """Ten thousand sessions may end in one moment, and the collector comes by rarely (proto.aio.loop.settle)."""

    def sessions() -> int:
        return sum(isinstance(each, Session) for each in gc.get_objects())

    gc.collect()
    before = sessions()
    gc.disable()
    try:
        async with Wire() as wire:
            wire.open()
            await wire.rest()
            handle(wire.taken[0]).head(OK, end=True)
            watched = [weakref.ref(wire.hub), weakref.ref(wire.agent)]
            await wire.rest()
            wire.hub.close(Code.CLOSED)
            await wire.rest()
        del wire
        await asyncio.sleep(0)
        assert [each() for each in watched] == [None, None]
        assert sessions() == before
    finally:
        gc.enable()


async def test_frames_that_come_after_the_end_are_dropped_and_counted() -> None:
    """A session that was superseded while its agent stood still: what it still sends has no effect (P7)."""
    counts = Counts()
    async with Wire(observer=counts) as wire:
        asked = wire.open()
        await wire.rest()
        wire.hub.close(Code.SUPERSEDED, "a newer session of this instance is open")
        assert asked.fate is not None
        assert asked.fate[0] is Code.SESSION_LOST
        late = frames.encode(frames.FrameType.PING, 0, 0, bytes(8)) * 2
        wire.hub.message_received(late)
        wire.hub.message_received(late + b"junk")
        assert [entry for entry in counts.log if entry[0] == "late"] == [("late", Code.SUPERSEDED, 2)] * 2
        assert asked.log == ["reset"]
