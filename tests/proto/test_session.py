"""Conversations between two sessions."""

import pytest

from proto import errors, events, messages
from proto.errors import Code
from proto.limits import Limits
from proto.transitions import SessionState
from tests.proto.pair import OK, Pair


def test_a_get_is_answered_with_one_message_each_way() -> None:
    pair = Pair()
    pair.pump()
    hub_before, agent_before = len(pair.hub.sent), len(pair.agent.sent)

    stream = pair.hub.get("/api/v1/pods?limit=500")
    pair.move(pair.hub, pair.agent)
    opened = pair.agent.last(events.StreamOpened)
    assert opened.end
    assert opened.message == messages.HttpRequest(method="GET", path=b"/api/v1/pods?limit=500", headers=())

    pair.agent.head(opened.stream)
    pair.agent.send(opened.stream, b"hello", end=True)
    pair.pump()

    assert pair.hub.last(events.HeadReceived).message == OK
    assert pair.hub.body(stream) == b"hello"
    assert pair.hub.last(events.DataReceived).end
    assert not pair.hub.session.table.streams
    assert not pair.agent.session.table.streams
    assert (len(pair.hub.sent) - hub_before, len(pair.agent.sent) - agent_before) == (1, 1)


def test_a_head_alone_may_be_the_whole_answer() -> None:
    pair = Pair()
    pair.hub.request("HEAD", end=True)
    pair.pump()
    pair.agent.head(pair.agent.taken(), messages.HttpHead(status=404, headers=()), end=True)
    pair.pump()
    assert pair.hub.last(events.HeadReceived).end
    assert not pair.hub.session.table.streams


def test_a_mutation_is_accepted_before_its_head() -> None:
    pair = Pair()
    pair.hub.request("POST")
    pair.pump()
    pair.agent.head(pair.agent.taken())
    pair.pump()
    kinds = [type(event) for event in pair.hub.log]
    assert kinds.index(events.StreamAccepted) < kinds.index(events.HeadReceived)


def test_a_second_accept_says_nothing() -> None:
    pair = Pair()
    pair.hub.request("POST")
    pair.pump()
    for _ in range(2):
        pair.agent.session.accept(pair.agent.taken(), messages.Accepted())
    pair.pump()
    assert len(pair.hub.all(events.StreamAccepted)) == 1


def test_half_close_keeps_the_other_half() -> None:
    pair = Pair()
    stream = pair.hub.dial()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.session.accept(taken, messages.Accepted())
    pair.hub.send(stream, b"question", end=True)
    pair.pump()
    assert pair.agent.last(events.DataReceived).end
    assert not taken.is_closed
    pair.agent.send(taken, b"answer", end=True)
    pair.pump()
    assert pair.hub.body(stream) == b"answer"
    assert stream.is_closed


def test_trailers_come_after_the_queued_body_and_end_the_half() -> None:
    pair = Pair()
    stream = pair.hub.get()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    pair.agent.send(taken, b"x" * 100_000)
    pair.agent.session.send_trailers(taken, ((b"grpc-status", b"0"),), now=pair.now)
    pair.pump()
    assert len(pair.hub.body(stream)) == 100_000
    assert pair.hub.last(events.TrailersReceived).headers == ((b"grpc-status", b"0"),)
    assert not pair.hub.session.table.streams
    with pytest.raises(errors.UsageError):
        pair.agent.session.send_trailers(pair.hub.dial(), (), now=pair.now)


def test_an_upgrade_is_opaque_after_101() -> None:
    pair = Pair()
    stream = pair.hub.request("GET", upgrade="websocket")
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken, messages.HttpHead(status=101, headers=()))
    pair.pump()
    pair.hub.send(stream, b"\x81\x00")
    pair.agent.send(taken, b"\x82\x00")
    pair.pump()
    assert pair.agent.body(taken) == b"\x81\x00"
    assert pair.hub.body(stream) == b"\x82\x00"


@pytest.mark.parametrize("status", [100, 103, 199, 101])
def test_no_interim_status_and_no_101_without_an_upgrade(status: int) -> None:
    pair = Pair()
    pair.hub.get()
    pair.pump()
    with pytest.raises(errors.UsageError):
        pair.agent.head(pair.agent.taken(), messages.HttpHead(status=status, headers=()))


def test_own_missteps_are_usage_errors_and_send_nothing() -> None:
    pair = Pair()
    stream = pair.hub.request("POST")
    pair.pump()
    taken = pair.agent.taken()
    with pytest.raises(errors.UsageError):
        pair.agent.send(taken, b"body before head")
    with pytest.raises(errors.UsageError):
        pair.hub.head(stream)
    pair.hub.send(stream, b"", end=True)
    with pytest.raises(errors.UsageError):
        pair.hub.send(stream, b"after the end")
    pair.agent.head(taken)
    with pytest.raises(errors.UsageError):
        pair.agent.head(taken)
    with pytest.raises(errors.UsageError):
        pair.agent.session.send_head(taken, messages.HttpHead(status=200, headers=((b"a", b"\r\n"),)), now=pair.now)
    with pytest.raises(errors.MessageTooBig):
        pair.hub.request("GET", "/" + "x" * 61_440)
    pair.pump()
    assert pair.hub.session.is_open
    assert pair.agent.session.is_open


def test_everything_is_silent_on_a_dead_stream() -> None:
    pair = Pair()
    stream = pair.hub.request("POST")
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.session.reset_stream(taken, Code.FORBIDDEN, "not on the list", now=pair.now)
    pair.pump()
    reset = pair.hub.last(events.StreamReset)
    assert (reset.code, reset.text) == (Code.FORBIDDEN, "not on the list")
    for side, dead in ((pair.hub, stream), (pair.agent, taken)):
        assert side.send(dead, b"late")
        side.session.reset_stream(dead, Code.CANCELLED, now=pair.now)
        side.session.consumed(dead, 5)
        side.session.send_trailers(dead, (), now=pair.now)
    pair.agent.head(taken)
    pair.agent.session.accept(taken, messages.Accepted())
    assert not pair.hub.flush()
    assert not pair.agent.flush()


def test_cancelling_drops_queued_bytes_and_says_so_at_once() -> None:
    pair = Pair()
    pair.hub.get()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    pair.agent.send(taken, b"x" * 200_000)
    pair.agent.session.reset_stream(taken, Code.UPSTREAM, "broken off", now=pair.now)
    assert pair.agent.session.out.queued == 0
    assert [frame[0] for frame in pair.agent.flush()] == [6]  # RESET and nothing else: not even the head


def test_a_reset_before_the_open_left_leaves_nothing_on_the_wire() -> None:
    pair = Pair()
    pair.pump()
    stream = pair.hub.get()
    pair.hub.session.reset_stream(stream, Code.CANCELLED, now=pair.now)
    assert not pair.hub.flush()
    assert pair.hub.last(events.StreamClosed).stream is stream


def test_session_lost_never_crosses_the_wire() -> None:
    pair = Pair()
    stream = pair.hub.get()
    pair.pump()
    pair.hub.session.reset_stream(stream, Code.SESSION_LOST, now=pair.now)
    pair.pump()
    assert pair.agent.last(events.StreamReset).code is Code.INTERNAL


def test_a_reset_text_is_cut_to_its_limit() -> None:
    pair = Pair()
    pair.hub.get()
    pair.pump()
    pair.agent.session.reset_stream(pair.agent.taken(), Code.UPSTREAM, "é" * 500, now=pair.now)
    pair.pump()
    assert pair.hub.last(events.StreamReset).text.startswith("é" * 128)


# Bounds on streams


def test_the_stream_limit_is_the_callers_to_hear() -> None:
    pair = Pair(Limits(streams=3))
    for _ in range(3):
        pair.hub.get()
    with pytest.raises(errors.TooManyStreams):
        pair.hub.get()
    pair.pump()
    pair.agent.head(pair.agent.taken(), end=True)
    pair.pump()
    pair.hub.get()


def test_opens_beyond_the_backlog_wait_their_turn() -> None:
    pair = Pair(Limits(open_backlog=2))
    streams = [pair.hub.get(f"/{n}") for n in range(5)]
    pair.pump()
    assert len(pair.agent.all(events.StreamOpened)) == 2
    assert [stream.is_held for stream in streams] == [False, False, True, True, True]
    for _ in range(5):
        for event in pair.agent.all(events.StreamOpened):
            if not event.stream.is_closed:
                pair.agent.head(event.stream, end=True)
        pair.pump()
    assert [event.message.path for event in pair.agent.all(events.StreamOpened)] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert not pair.hub.session.table.streams


def test_a_cancelled_open_makes_room_in_the_backlog() -> None:
    pair = Pair(Limits(open_backlog=1))
    first, second = pair.hub.get("/1"), pair.hub.get("/2")
    third = pair.hub.get("/3")
    pair.pump()
    pair.hub.session.reset_stream(second, Code.CANCELLED, now=pair.now)
    pair.hub.session.reset_stream(first, Code.CANCELLED, now=pair.now)
    pair.pump()
    assert [event.message.path for event in pair.agent.all(events.StreamOpened)] == [b"/1", b"/3"]
    assert not third.is_held


def test_bytes_waiting_in_opens_are_bounded() -> None:
    pair = Pair(Limits(open_queue_bytes=100_000))
    pair.hub.get("/" + "x" * 60_000)
    with pytest.raises(errors.TooManyStreams):
        pair.hub.get("/" + "x" * 60_000)
    pair.pump()
    pair.hub.get("/" + "x" * 60_000)


def test_ids_end_with_a_drain_and_never_wrap() -> None:
    pair = Pair(last_stream_id=2050)
    pair.pump()
    for _ in range(1025):
        stream = pair.hub.get()
        pair.hub.session.reset_stream(stream, Code.CANCELLED, now=pair.now)
    assert stream.id == 2050
    with pytest.raises(errors.SessionDraining):
        pair.hub.get()
    pair.pump()
    assert pair.agent.last(events.DrainReceived).text == "stream ids are used up"
    assert pair.agent.session.is_draining


# Drain and goodbye


def test_drain_takes_what_was_under_way_and_then_fixes_the_last_id() -> None:
    pair = Pair()
    pair.pump()
    pair.agent.session.drain(30.0, Code.DRAINING, "rollout", now=pair.now)
    crossing = pair.hub.get("/crossing")
    pair.pump()
    assert pair.agent.last(events.StreamOpened).message.path == b"/crossing"
    drain = pair.hub.last(events.DrainReceived)
    assert (drain.code, drain.text, drain.drain_s) == (Code.DRAINING, "rollout", 30.0)
    with pytest.raises(errors.SessionDraining):
        pair.hub.get()
    assert not pair.hub.session.is_drained
    pair.agent.head(pair.agent.taken(), end=True)
    pair.pump()
    assert crossing.is_closed
    assert not crossing.is_reset
    assert pair.hub.session.is_drained
    assert pair.agent.session.is_drained


def test_a_drain_refuses_what_has_not_left() -> None:
    pair = Pair(Limits(open_backlog=1))
    pair.hub.get("/sent")
    held = pair.hub.get("/held")
    pair.pump()
    pair.agent.session.drain(30.0, Code.DRAINING, "", now=pair.now)
    pair.pump()
    reset = pair.hub.last(events.StreamReset)
    assert reset.stream is held
    assert reset.code in errors.UNEXECUTED


def test_the_drain_deadline_ends_the_session() -> None:
    pair = Pair()
    stream = pair.hub.get()
    pair.pump()
    pair.agent.session.drain(5.0, Code.DRAINING, "", now=pair.now)
    pair.advance(4.9)
    assert pair.hub.session.is_open
    pair.advance(0.2)
    ended = pair.hub.last(events.SessionEnded).reason
    assert (ended.kind, ended.code) == (events.EndKind.PEER, Code.DRAINING)
    reset = pair.hub.last(events.StreamReset)
    assert (reset.stream, reset.code) == (stream, Code.SESSION_LOST)  # it was taken: nobody knows how far it got


def test_the_one_who_drains_may_still_open() -> None:
    pair = Pair()
    pair.hub.session.drain(30.0, Code.DRAINING, "", now=pair.now)
    pair.hub.get("/last")
    pair.pump()
    assert pair.agent.last(events.StreamOpened).message.path == b"/last"


def test_a_goodbye_tells_which_streams_were_never_taken() -> None:
    pair = Pair()
    pair.pump()
    taken = pair.hub.get("/taken")
    pair.pump()
    pair.agent.session.close(Code.SUPERSEDED, "newer session", retry_s=1.5)
    crossing = pair.hub.get("/crossing")
    pair.hub.flush()  # it left, and crosses the goodbye
    held = pair.hub.get("/held")
    pair.move(pair.agent, pair.hub)
    fates = {event.stream: event.code for event in pair.hub.all(events.StreamReset)}
    assert fates == {taken: Code.SESSION_LOST, crossing: Code.DRAINING, held: Code.REFUSED}
    reason = pair.hub.last(events.SessionEnded).reason
    assert (reason.kind, reason.code, reason.text, reason.retry_s) == (
        events.EndKind.PEER,
        Code.SUPERSEDED,
        "newer session",
        1.5,
    )
    assert reason.is_clean
    with pytest.raises(errors.SessionLost):
        pair.hub.get()


def test_a_closed_session_is_deaf_and_mute() -> None:
    pair = Pair()
    pair.hub.session.close(Code.CLOSED)
    pair.hub.session.close(Code.CLOSED)
    pair.hub.session.drain(1.0, Code.DRAINING, "", now=pair.now)
    pair.hub.session.handle_timer(pair.now + 100)
    pair.hub.session.start(pair.now)
    pair.hub.receive(b"garbage")
    assert not pair.hub.session.send_message(1, b"x", droppable=True)
    assert [frame[0] for frame in pair.hub.flush()] == [8]
    assert len(pair.hub.all(events.SessionEnded)) == 1
    assert pair.hub.session.state is SessionState.CLOSED


def test_the_end_of_the_transport_resets_every_stream_once() -> None:
    pair = Pair()
    streams = [pair.hub.get() for _ in range(3)]
    pair.pump()
    pair.hub.session.receive_eof()
    pair.hub.session.receive_eof()
    assert [event.stream for event in pair.hub.all(events.StreamReset)] == streams
    assert {event.code for event in pair.hub.all(events.StreamReset)} == {Code.SESSION_LOST}
    assert pair.hub.last(events.SessionEnded) is pair.hub.log[-1]
    assert not pair.hub.session.has_output
