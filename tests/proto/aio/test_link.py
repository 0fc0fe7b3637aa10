"""Links over a pipe: no socket, no real sleep."""

import asyncio
import logging

import pytest

from proto import frames, messages
from proto.aio.link import Link
from proto.aio.transport import PipeEnd, pipe
from proto.errors import Code
from proto.events import EndKind
from proto.limits import Limits
from proto.messages import StreamClass, StreamKind
from proto.session import Role, Session
from proto.window import Budget
from tests.harness.heard import Heard
from tests.proto.aio.fakes import GET, OK, POST, Counts, Owner, Wire, handle, tapped
from tests.proto.pair import shake


async def test_a_request_and_its_answer() -> None:
    async with Wire() as wire:
        asked = wire.open()
        await wire.rest()
        taken = wire.taken[0]
        assert taken.log == ["end"]
        assert (wire.hub.owners(), wire.agent.owners()) == ([asked], [taken])
        assert handle(taken).peer_ended
        handle(taken).head(OK)
        handle(taken).send(b"hello", end=True)
        await wire.rest()
        assert asked.log == ["head", "data", "end"]
        assert (asked.status, asked.body) == (200, b"hello")
        assert handle(asked).is_closed
        assert wire.hub.streams == wire.agent.streams == 0
        assert wire.hub.owners() == wire.agent.owners() == []
        assert wire.hub.rtt_s is not None
        assert wire.hub.last_received_at > 0


async def test_frames_of_one_turn_leave_in_one_message() -> None:
    sent: list[bytes] = []
    one, two = pipe()
    async with Wire(transports=(tapped(one, sent.append), two)) as wire:
        sent.clear()
        for _ in range(20):
            wire.open()
        await wire.rest()
        assert [len(frames.split(message)) for message in sent] == [20]
        assert len(wire.taken) == 20


async def test_its_leg_hears_of_each_message_both_ways() -> None:
    sent: list[bytes] = []
    received: list[bytes] = []
    one, two = pipe()
    leg = Heard()
    async with Wire(transports=(tapped(one, sent.append), tapped(two, received.append)), leg=leg) as wire:
        sent.clear()
        received.clear()
        leg.log.clear()
        wire.open()
        await wire.rest()
        handle(wire.taken[0]).head(OK)
        await wire.rest()
        assert [size for what, size in leg.log if what == "sent"] == [len(message) for message in sent]
        assert [size for what, size in leg.log if what == "arrived"] == [len(message) for message in received]
        assert leg.log[0] == ("sent", len(sent[0]))


async def test_one_message_leaves_in_a_turn_of_the_loop() -> None:
    """What comes meanwhile goes into the next one, before the bulk that still waits."""
    turn, sent_in = 0, []

    def tick() -> None:
        nonlocal turn
        turn += 1
        if turn < 1000:
            asyncio.get_running_loop().call_soon(tick)

    one, two = pipe(limit=2**20)
    async with Wire(transports=(one, tapped(two, lambda _: sent_in.append(turn)))) as wire:
        asked = wire.open()
        await wire.rest()
        sent_in.clear()
        tick()
        handle(wire.taken[0]).head(OK)
        handle(wire.taken[0]).send(bytes(250_000), end=True)
        await wire.rest()
        assert asked.log[-1] == "end"
        assert len(sent_in) >= 4
        assert len(set(sent_in)) == len(sent_in)


async def test_both_ends_know_what_may_wait_of_an_answer() -> None:
    async with Wire(limits=Limits(near_rtt_s=0.0)) as wire:
        asked = wire.open()
        wire.hub.session.budget = crowded = Budget(1 << 30)
        crowded.promised = 1 << 30
        crowdedly = wire.open()
        await wire.rest()
        assert [handle(owner).window for owner in (asked, crowdedly)] == [256 * 1024, 32 * 1024]
        assert [handle(owner).window for owner in wire.taken] == [256 * 1024, 32 * 1024]


async def test_backpressure_pauses_the_source_and_resumes_it() -> None:
    async with Wire(limits=Limits(near_rtt_s=0.0)) as wire:
        asked = wire.open(owner=Owner(consumes=False))
        await wire.rest()
        taken = wire.taken[0]
        handle(taken).head(OK)
        room = True
        sent = 0
        while room:
            room = handle(taken).send(b"x" * 65_536)
            sent += 65_536
            await wire.rest()
        assert sent < 1_000_000
        assert handle(taken).queued_bytes >= 256 * 1024
        assert wire.agent.queued_bytes == handle(taken).queued_bytes
        assert len(asked.body) == 256 * 1024
        handle(asked).consumed(256 * 1024)
        await wire.rest()
        assert "writable" in taken.log


async def test_a_reset_reaches_the_other_side_and_never_its_own_owner() -> None:
    async with Wire() as wire:
        asked = wire.open(POST, end=False)
        await wire.rest()
        handle(asked).reset(Code.CANCELLED, "client went away")
        await wire.rest()
        assert wire.taken[0].fate == (Code.CANCELLED, "client went away")
        assert asked.log == []
        for dead in (asked, wire.taken[0]):
            assert handle(dead).is_closed
            handle(dead).send(b"x")
            handle(dead).end()
            handle(dead).accept()
            handle(dead).consumed(1)
            handle(dead).reset(Code.INTERNAL)
            handle(dead).trailers(())


@pytest.mark.parametrize("call", ["accepted", "head", "data", "end", "trailers", "writable", "reset"])
async def test_an_owner_that_raises_costs_its_own_stream_only(call: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Wire() as wire:
        good, bad = wire.open(), wire.open(POST, owner=Owner(raises=(call,)), end=False)
        await wire.rest()
        answer = handle(wire.taken[1])
        if call == "reset":
            answer.reset(Code.UPSTREAM, "gone")
        else:
            handle(bad).send(b"x" * 300_000)
            answer.accept()
            answer.head(OK)
            answer.send(b"data")
            answer.trailers(((b"a", b"b"),))
            answer.consumed(262_144)
        await wire.rest()
        if call == "writable":
            answer.consumed(300_000)
            await wire.rest()
        assert bad.fate is not None
        assert bad.fate[0] is (Code.UPSTREAM if call == "reset" else Code.INTERNAL)
        assert handle(bad).is_closed
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
            "stream owner failed"
        ]
        handle(wire.taken[0]).head(OK, end=True)
        await wire.rest()
        assert good.log == ["head", "end"]


async def test_on_open_that_raises_or_returns_nothing_resets_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Owner):
        def __init__(self) -> None:
            raise RuntimeError("no owner today")

    async with Wire() as wire:
        wire.owner = Broken
        asked = wire.open()
        await wire.rest()
        assert asked.fate == (Code.INTERNAL, "internal error")
        assert "stream owner failed" in caplog.text
        wire.agent._delivery._on_open = lambda *_: None
        asked = wire.open()
        await wire.rest()
        assert asked.fate == (Code.INTERNAL, "nobody took the stream")
        back = Owner()
        back.stream = wire.agent.open(GET, back, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=True)
        await wire.rest()
        assert back.fate == (Code.REFUSED, "")


async def test_an_owner_that_resets_inside_a_call_hears_nothing_more() -> None:
    class Fussy(Owner):
        def head(self, message: messages.HttpHead) -> None:
            super().head(message)
            handle(self).reset(Code.CANCELLED)

    async with Wire() as wire:
        asked = wire.open(owner=Fussy())
        await wire.rest()
        handle(wire.taken[0]).head(OK)
        handle(wire.taken[0]).send(b"x", end=True)
        await wire.rest()
        assert asked.log == ["head"]


async def test_taken_streams_make_room_in_the_openers_backlog() -> None:
    async with Wire(limits=Limits(open_backlog=4)) as wire:
        asked = [wire.open() for _ in range(20)]
        await wire.rest()
        assert len(wire.taken) == 20  # although none was answered by its owner
        for owner in wire.taken:
            handle(owner).head(OK, end=True)
        await wire.rest()
        assert all(owner.status == 200 for owner in asked)


class Clock:
    """A clock that jumps when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_timer_notices_death_and_the_observer_hears_of_everything() -> None:
    counts = Counts()
    async with Wire(observer=counts) as wire:
        asked = wire.open()
        await wire.rest()
        handle(wire.taken[0]).head(OK)
        handle(wire.taken[0]).send(b"12345", end=True)
        await wire.rest()
        wire.owner = lambda: Owner(consumes=False)
        blocked = wire.open(POST, end=False)
        handle(blocked).send(b"x" * 300_000)
        await wire.rest()
        assert asked.body == b"12345"
        wire.hub.session.refusals["violation"] = 1
        clock = Clock()
        clock.now = wire.hub.clock() + 1.0
        wire.hub.clock = clock
        wire.hub._on_timer(asyncio.get_running_loop())
        kinds = [entry[0] for entry in counts.log]
        assert kinds.count("opened") == 2
        assert kinds.count("closed") == 1
        assert ("bytes", "in", StreamClass.NORMAL, 5) in counts.log
        assert ("bytes", "out", StreamClass.NORMAL, 262_144) in counts.log
        assert ("refused", "violation") in counts.log
        assert {"rtt", "open_latency", "stalled"} <= set(kinds)
        clock.now += 1.0
        wire.hub._on_timer(asyncio.get_running_loop())
        assert [entry[1] for entry in counts.log if entry[0] == "stalled"] == [True, False]
        clock.now += 7.0
        wire.hub._on_timer(asyncio.get_running_loop())
        assert (await wire.ends_with(wire.hub_run)).kind is EndKind.STALLED
        assert blocked.fate is not None


async def test_a_part_of_a_message_shows_that_the_peer_lives() -> None:
    async with Wire() as wire:
        clock = Clock()
        clock.now = wire.hub.clock() + 3.0
        wire.hub.clock = clock
        wire.hub.part_received(60_000)
        assert wire.hub.session.liveness.last_received_at == clock.now
        wire.hub.session.receive_eof("gone")
        wire.hub.part_received(60_000)  # nobody cares


async def test_a_failing_timer_ends_the_session_instead_of_leaving_it_blind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Wire() as wire:

        def broken(_session: Session, _now: float) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(Session, "handle_timer", broken)
        wire.hub._on_timer(asyncio.get_running_loop())
        assert (await wire.ends_with(wire.hub_run)).kind is EndKind.TRANSPORT
    assert "timer failed" in caplog.text


async def test_a_probe_that_meets_the_end_says_so() -> None:
    async with Wire() as wire:
        answers: list[bool] = []
        wire.hub.probe(answers.append)
        wire.hub.close(Code.CLOSED)
        assert answers == [False]
        wire.hub.probe(answers.append)
        assert answers == [False, False]


async def test_a_probe_is_answered_once() -> None:
    async with Wire() as wire:
        answers: list[str] = []
        wire.hub.probe(lambda is_alive: answers.append("pong" if is_alive else "lost"))
        wire.hub.probe()
        assert wire.hub.unanswered_ping_at is not None
        await wire.rest()
        assert answers == ["pong"]
        assert wire.hub.unanswered_ping_at is None


async def test_messages_and_failing_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    async with Wire() as wire:
        assert wire.agent.send_message(3, b"sample")
        await wire.rest()
        assert wire.messages == [(3, b"sample")]

        def broken(*_: object) -> None:
            raise RuntimeError("broken")

        wire.hub._delivery._on_message = broken
        wire.agent.send_message(3, b"sample")
        await wire.rest()
        assert wire.hub.is_open
        assert "delivery failed" in caplog.text


async def test_a_transport_with_a_bug_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(PipeEnd):
        __slots__ = ()

        def write(self, message: bytes) -> None:
            raise ValueError("bug")

    one, _two = pipe()
    link = Link(Session(Role.HUB, shake()[0]), Buggy(one._in, one._out, 1, "x"), on_open=lambda *_: None, name="hub")
    async with asyncio.timeout(30):
        assert (await link.run()).kind is EndKind.TRANSPORT
    assert "writing failed" in caplog.text
    assert repr(link) == "<Link hub CLOSED>"
    assert link.peer == "x"


async def test_the_reader_is_never_held_up_by_a_full_writer() -> None:
    """The peer takes nothing from us, yet what it sends is still read: the two directions are independent."""
    one, raw = pipe(limit=1000)
    link = Link(Session(Role.HUB, shake()[0]), one, on_open=lambda *_: None, name="hub")
    owner = Owner()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        run = group.create_task(link.run())
        await asyncio.sleep(0)
        owner.stream = link.open(POST, owner, kind=StreamKind.HTTP, cls=StreamClass.BULK)
        owner.stream.send(b"x" * 200_000)
        for _ in range(20):
            await asyncio.sleep(0)
        assert link.queued_bytes > 0
        await raw.send(frames.encode(frames.FrameType.RESET, 0, owner.stream.id, b"\x00\x0d"))
        await owner.done.wait()
        assert owner.fate == (Code.FORBIDDEN, "")
        raw.abort()
        assert (await run).kind is EndKind.TRANSPORT
