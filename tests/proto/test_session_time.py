"""Conversations between two sessions about credit, time and urgency (continues test_session)."""

import pytest

from proto import errors, events, messages
from proto.errors import Code
from proto.frames import FrameType
from proto.limits import Limits
from proto.messages import StreamClass
from proto.stream import Stream
from proto.window import CROWDED_BYTES, Budget
from tests.proto.pair import Pair, answer_all, measured

# Credit


def test_a_stalled_stream_holds_one_window_and_hinders_nobody() -> None:
    pair = Pair()
    slow = pair.hub.get("/slow")
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    pair.agent.send(taken, b"x" * 3_000_000)
    pair.pump()
    assert slow.buffered == 256 * 1024
    quick = pair.hub.get("/quick")
    pair.pump()
    pair.agent.head(pair.agent.taken())
    pair.agent.send(pair.agent.taken(), b"y" * 1000, end=True)
    pair.pump()
    assert pair.hub.body(quick) == b"y" * 1000
    while taken.queued != 0:
        pair.hub.session.consumed(slow, 100_000)
        pair.pump()
    assert len(pair.hub.body(slow)) == 3_000_000


def test_the_sender_is_paused_and_told_when_to_go_on() -> None:
    pair = Pair()
    stream = pair.hub.get()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    assert pair.agent.send(taken, b"x" * 200_000)
    assert not pair.agent.send(taken, b"x" * 200_000)
    pair.pump()
    pair.hub.session.consumed(stream, 256 * 1024)
    pair.pump()
    assert [event.stream for event in pair.agent.all(events.Writable)] == [taken]


def test_session_credit_returns_on_receipt() -> None:
    limits = Limits(window_bytes=65536, window_max_bytes=65536, session_window_bytes=65536)
    pair = Pair(limits, limits)
    streams = [pair.hub.get() for _ in range(20)]
    answer_all(pair, 60_000)
    assert sum(stream.buffered for stream in streams) == 20 * 60_000  # nobody consumed, all arrived


def over(rtt_s: float, budget: Budget) -> tuple[Pair, Stream]:
    """A pair whose way is so long, and a stream whose window has grown on it as far as it may."""
    pair = measured(rtt_s, rtt_s, budget)
    stream = pair.hub.get()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    for _ in range(40):
        pair.agent.send(taken, b"x" * 1_000_000)
        pair.now += rtt_s / 5
        pair.pump()
        pair.hub.session.consumed(stream, stream.buffered)
        pair.pump()
    assert stream.window == 4 * 1024 * 1024
    return pair, stream


def test_a_used_up_window_doubles_while_the_budget_allows_and_shrinks_when_idle() -> None:
    budget = Budget(1 << 30)
    pair, stream = over(0.1, budget)
    assert budget.promised == 256 * 1024, "fast readers crowd no process"
    assert pair.hub.session._growth.extra == stream.window - 256 * 1024
    pair.hub.session.consumed(stream, stream.buffered)
    pair.advance(11.0)
    assert stream.window == 256 * 1024
    assert pair.hub.session._growth.extra == 0


@pytest.mark.parametrize(("rtt_s", "expected"), [(0.019, 256), (0.021, 1024)])
def test_over_a_long_way_a_list_starts_with_what_others_have_needed(rtt_s: float, expected: int) -> None:
    budget = Budget(1 << 30)
    pair, before = over(rtt_s, budget)
    pair.hub.session.reset_stream(before, Code.CANCELLED, now=pair.now)
    fresh = pair.hub.get(is_long=True)
    assert fresh.window == expected * 1024
    assert budget.promised == (expected * 1024 if expected > 256 else 0), (
        "should its reader stop soon, it holds so much"
    )
    pair.pump()
    theirs = pair.agent.taken()
    assert theirs.opening_credit == expected * 1024
    pair.agent.head(theirs)
    pair.agent.send(theirs, bytes(2_000_000))
    pair.pump()
    assert fresh.buffered == expected * 1024
    pair.hub.session.consumed(fresh, fresh.buffered // 2)
    pair.pump()
    assert budget.promised == expected * 1024
    pair.hub.session.reset_stream(fresh, Code.CANCELLED, now=pair.now)
    assert (budget.promised, pair.hub.session._growth.extra) == (0, 0)
    assert pair.hub.get().window == 256 * 1024
    assert pair.hub.request("GET", upgrade="websocket", end=True, is_long=True).window == 256 * 1024


def test_lists_that_nobody_reads_leave_others_room_to_grow_and_come_to_an_end() -> None:
    budget = Budget(1 << 30)
    pair, moving = over(0.1, budget)
    lists = [pair.hub.get(is_long=True) for _ in range(20)]
    assert [each.window // 1024 for each in lists].count(1024) == 0, "one that has grown takes half of the room already"
    pair.hub.session.reset_stream(moving, Code.CANCELLED, now=pair.now)
    lists = [pair.hub.get(is_long=True) for _ in range(20)]
    assert [each.window // 1024 for each in lists].count(1024) == 5  # of 768 KiB more each; 4 MiB are half of the room
    assert budget.promised == 5 * 1024 * 1024
    other, _ = over(0.1, budget)
    assert [other.hub.get(is_long=True).window // 1024 for _ in range(5)] == [256] * 5, "half way to being crowded"
    pair.advance(11.0)
    assert pair.hub.session._growth.extra == 5 * 768 * 1024, "all of it may still come"
    assert budget.promised == 5 * 1024 * 1024 + 256 * 1024, "and 256 KiB of the one that moves"
    pair.pump()
    for event in pair.agent.all(events.StreamOpened)[-20:]:
        pair.agent.head(event.stream)
        pair.agent.send(event.stream, b"x")
    pair.pump()
    for each in lists:
        pair.hub.session.consumed(each, each.buffered)
    pair.advance(11.0)
    assert (budget.promised, pair.hub.session._growth.extra) == (256 * 1024, 0)


def test_an_open_that_finds_no_room_gives_back_what_it_took_of_the_growth() -> None:
    pair, before = over(0.1, Budget(1 << 30))
    pair.hub.session.reset_stream(before, Code.CANCELLED, now=pair.now)
    pair.hub.session.out._open_bytes = pair.hub.session.limits.open_queue_bytes
    with pytest.raises(errors.TooManyStreams):
        pair.hub.get(is_long=True)
    assert pair.hub.session._growth.extra == 0


def test_streams_that_move_much_promise_their_windows_until_they_end_or_rest() -> None:
    budget = Budget(1 << 30)
    pair = Pair(budget=budget)
    streams = [pair.hub.get() for _ in range(3)]
    answer_all(pair, 100_000, 200_000, 200_000)
    for stream in streams:
        pair.hub.session.consumed(stream, stream.buffered)
    pair.pump()
    assert budget.promised == 2 * 256 * 1024  # of the first one less than half was used
    pair.hub.session.reset_stream(streams[1], Code.CANCELLED, now=pair.now)
    assert budget.promised == 256 * 1024
    pair.advance(11.0)
    assert budget.promised == 0


def test_in_a_crowded_process_a_fresh_stream_starts_with_little_credit_and_an_upgrade_with_as_much_as_ever() -> None:
    budget = Budget(1 << 30)
    budget.used = CROWDED_BYTES
    pair = Pair(budget=budget)
    stream, upgrade = pair.hub.get(), pair.hub.request("GET", upgrade="websocket", end=True)
    pair.pump()
    theirs, other = (event.stream for event in pair.agent.all(events.StreamOpened))
    assert (stream.window, upgrade.window) == (32 * 1024, 256 * 1024)
    assert (theirs.opening_credit, other.opening_credit) == (32 * 1024, 256 * 1024)
    pair.agent.head(theirs)
    pair.agent.send(theirs, b"x" * 100_000)
    pair.pump()
    assert stream.buffered == 32 * 1024
    pair.hub.session.consumed(stream, stream.buffered)
    pair.pump()
    assert stream.buffered == 32 * 1024


def test_who_reads_in_a_crowded_process_soon_has_the_usual_window() -> None:
    budget = Budget(1 << 30)
    pair, before = over(0.1, budget)
    pair.hub.session.reset_stream(before, Code.CANCELLED, now=pair.now)
    budget.used = CROWDED_BYTES
    stream = pair.hub.get()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    pair.agent.send(taken, bytes(1_000_000))
    windows = []
    for _ in range(4):
        pair.pump()
        pair.hub.session.consumed(stream, stream.buffered)
        windows.append((stream.window // 1024, stream.promised // 1024, pair.hub.session._growth.extra // 1024))
    assert windows == [(32, 0, 0), (128, 128, 0), (256, 256, 0), (512, 256, 256)]


def test_slow_readers_with_little_credit_are_cut_too() -> None:
    budget = Budget(1_000_000)
    budget.used = 600_000
    pair = Pair(budget=budget)
    streams = [pair.hub.get() for _ in range(8)]
    answer_all(pair, 100_000)
    assert budget.used == 600_000 + 8 * 32 * 1024
    assert budget.is_pressed
    pair.advance(1.0)
    assert not budget.is_pressed
    assert sum(stream.is_reset for stream in streams) == 2


def test_the_process_budget_cuts_the_reader_that_does_not_read() -> None:
    budget = Budget(400_000)
    pair = Pair(budget=budget)
    slow, fast = pair.hub.get(), pair.hub.get()
    answer_all(pair, 200_000)
    assert budget.is_pressed
    pair.hub.session.consumed(fast, 10_000)
    pair.advance(1.0)
    assert pair.hub.last(events.StreamReset).stream is slow
    assert pair.hub.last(events.StreamReset).code is Code.OVERLOADED
    assert not fast.is_closed
    assert budget.used == fast.buffered
    pair.hub.session.close(Code.CLOSED)
    assert budget.used == 0


# Liveness


def test_pings_measure_the_round_trip() -> None:
    pair = Pair()
    message = pair.hub.session.outbox(pair.now)
    pair.now += 0.05
    pair.agent.session.receive(message, pair.now)
    pair.pump()
    assert pair.hub.session.liveness.rtt_s == pytest.approx(0.05)
    assert pair.hub.last(events.PongReceived).rtt_s == pytest.approx(0.05)


def test_pings_are_frequent_only_while_there_is_something_to_lose() -> None:
    pair = Pair()
    pair.pump()
    pair.advance(60.0)
    idle = pair.hub.session.liveness._count
    assert 5 <= idle <= 8
    stream = pair.hub.get()
    pair.pump()
    pair.advance(60.0)
    busy = pair.hub.session.liveness._count - idle
    assert 25 <= busy <= 32
    pair.agent.head(pair.agent.taken(), end=True)
    pair.pump()
    assert stream.is_closed
    pair.advance(120.0)
    assert pair.hub.session.liveness._count - idle - busy < 70


def test_a_command_wakes_no_pings() -> None:
    """An idle node agent presents a token every eight minutes: 60 s of pings each time would cost most of its day."""
    pair = Pair()
    pair.advance(60.0)
    before = [side.session.liveness._count for side in (pair.hub, pair.agent)]
    for _ in range(4):
        command = messages.Command(verb="present-token")
        stream = pair.agent.session.open_stream(
            command, kind=messages.StreamKind.CMD, cls=StreamClass.NORMAL, end=True, now=pair.now
        )
        pair.pump()
        taken = pair.hub.taken()
        pair.hub.session.accept(taken, messages.Accepted())
        pair.hub.send(taken, b"done", end=True)
        pair.pump()
        pair.consume(pair.agent)
        assert stream.is_closed
        pair.advance(60.0)
    after = [side.session.liveness._count for side in (pair.hub, pair.agent)]
    assert 23 <= after[0] - before[0] <= 25
    assert after[1] == before[1]


def test_an_open_after_silence_brings_a_probe_with_it() -> None:
    pair = Pair()
    pair.pump()
    pair.advance(25.0)
    pair.now += 3.0
    pair.hub.get()
    kinds = [frame[0] for frame in pair.hub.flush()]
    assert kinds == [7, 2]


def test_an_unanswered_ping_ends_the_session_after_five_seconds() -> None:
    pair = Pair()
    pair.pump()
    pair.hub.get()
    pair.pump()
    start = pair.now
    while pair.hub.session.is_open:
        pair.now += 0.25
        pair.hub.session.handle_timer(pair.now)
        pair.hub.session.outbox(pair.now)
        pair.hub.session.written()
        pair.agent.session.liveness.beat(pair.now)
    assert pair.now - start <= 7.25
    assert pair.hub.last(events.SessionEnded).reason.kind is events.EndKind.TIMEOUT


def test_a_stalled_loop_reads_nothing_more() -> None:
    pair = Pair()
    pair.pump()
    pair.hub.request("DELETE", end=True)
    message = pair.hub.session.outbox(pair.now)
    pair.now += 6.5  # the agent's loop stood still; the hub has given up on it by now
    pair.agent.receive(message)
    assert not pair.agent.all(events.StreamOpened)
    assert pair.agent.last(events.SessionEnded).reason.kind is events.EndKind.STALLED


def test_a_stall_is_noticed_by_the_timer_too() -> None:
    pair = Pair()
    pair.pump()
    pair.agent.session.handle_timer(pair.now + 6.5)
    assert pair.agent.last(events.SessionEnded).reason.kind is events.EndKind.STALLED


def test_a_transport_that_takes_nothing_is_given_up() -> None:
    pair = Pair(Limits(pong_timeout_s=100.0, silent_s=100.0))
    pair.pump()
    pair.hub.get()
    pair.hub.session.outbox(pair.now)  # and `written` never comes
    for _ in range(19):
        pair.now += 1.0
        pair.hub.session.handle_timer(pair.now)
    assert pair.hub.session.is_open
    pair.now += 1.0
    pair.hub.session.handle_timer(pair.now)
    assert pair.hub.last(events.SessionEnded).reason.kind is events.EndKind.TIMEOUT


def test_a_list_that_fits_no_frame_is_not_sent() -> None:
    many = Limits(streams=8192, open_backlog=8192, open_queue_bytes=2**24)
    pair = Pair(hub_limits=many, agent_limits=many)
    pair.pump()
    for side in (pair.hub, pair.agent):
        for _ in range(8192):
            side.dial()
        pair.pump()
    pair.advance(61.0)
    assert pair.hub.session.is_open
    assert pair.hub.said(FrameType.SYNC) == []
    assert len(pair.hub.session.table.streams) == 16_384


def test_sync_resets_what_only_one_side_has() -> None:
    pair = Pair()
    kept, lost_there, lost_here = pair.hub.get("/kept"), pair.hub.get("/lost-there"), pair.hub.get("/lost-here")
    pair.pump()
    for event in pair.agent.all(events.StreamOpened):
        pair.agent.head(event.stream)
    pair.pump()
    pair.agent.session.table.remove(pair.agent.session.table.streams[lost_there.id])
    pair.hub.session.table.remove(lost_here)
    pair.advance(61.0)
    assert [event.stream for event in pair.hub.all(events.StreamReset)] == [lost_there]
    assert [event.stream.id for event in pair.agent.all(events.StreamReset)] == [lost_here.id]
    assert list(pair.hub.session.table.streams) == [kept.id] == list(pair.agent.session.table.streams)


def test_half_closed_raw_streams_do_not_stay_for_ever() -> None:
    pair = Pair()
    raw, watch = pair.hub.dial(), pair.hub.get()
    pair.hub.send(raw, b"", end=True)
    pair.pump()
    pair.advance(290.0)
    assert not raw.is_closed
    pair.advance(30.0)
    assert pair.hub.last(events.StreamReset).code is Code.IDLE
    assert not watch.is_closed


def test_a_half_closed_raw_stream_that_sends_without_pause_is_not_idle() -> None:
    """A log of many minutes over a slow link, whose source is always ahead: its queue is never empty."""
    limits = Limits(half_closed_idle_s=30.0)
    pair = Pair(limits, limits)
    raw = pair.hub.dial()
    pair.pump()
    answer = pair.agent.taken()
    pair.agent.session.accept(answer, messages.Accepted())
    pair.hub.send(raw, b"", end=True)
    pair.pump()
    for _ in range(60):
        while answer.queued < 200_000:
            pair.agent.send(answer, bytes(65_536))
        pair.move(pair.agent, pair.hub)
        pair.consume(pair.hub)
        while pair.hub.session.has_output:
            pair.move(pair.hub, pair.agent)
        pair.advance(1.0, pump=False)
        assert answer.queued
    assert not answer.is_closed
    while answer.queued:
        pair.pump()
        pair.consume(pair.hub)
    pair.advance(45.0)
    assert pair.hub.last(events.StreamReset).code is Code.IDLE  # the source has nothing more to say


def test_messages_are_bounded_and_the_oldest_droppable_goes_first() -> None:
    pair = Pair(Limits(message_queue_bytes=3000))
    pair.pump()
    session = pair.hub.session
    assert session.send_message(1, b"a" * 1000, droppable=True)
    assert session.send_message(2, b"b" * 1000, droppable=False)
    assert session.send_message(3, b"c" * 1500, droppable=True)
    assert session.out.dropped_messages == 1
    assert not session.send_message(4, b"d" * 2900, droppable=False)
    with pytest.raises(errors.UsageError):
        session.send_message(4, b"d" * 16385, droppable=False)
    pair.pump()
    assert [(event.topic, len(event.body), event.droppable) for event in pair.agent.all(events.MessageReceived)] == [
        (2, 1000, False)
    ]
    assert session.send_message(5, b"", droppable=True)
    pair.pump()
    assert pair.agent.last(events.MessageReceived).topic == 5


# Urgency


def test_a_keystroke_overtakes_four_bulk_streams() -> None:
    pair = Pair()
    for _ in range(4):
        pair.hub.get(cls=StreamClass.BULK)
    key = pair.hub.request("GET", upgrade="websocket", cls=StreamClass.INTERACTIVE)
    pair.pump()
    opened = [event.stream for event in pair.agent.all(events.StreamOpened)]
    for stream in opened[:4]:
        pair.agent.head(stream)
        pair.agent.send(stream, b"x" * 250_000)
    pair.agent.head(opened[4], messages.HttpHead(status=101, headers=()))
    pair.agent.send(opened[4], b"k")
    pair.move(pair.agent, pair.hub)
    assert pair.hub.body(key) == b"k"
