"""What each frame of the peer does, frame by frame, legal and not."""

import pytest

from proto import codec, events, frames, messages
from proto.errors import Code
from proto.frames import FrameType
from proto.limits import Limits
from proto.messages import StreamClass, StreamKind
from tests.proto.pair import OK, Pair, Side

GET = messages.HttpRequest(method="GET", path=b"/", headers=())


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return frames.encode(kind, flags, stream, payload)


def opening(
    stream: int,
    message: messages.Opening = GET,
    *,
    kind: int = StreamKind.HTTP,
    cls: int = StreamClass.NORMAL,
    window: int = 262_144,
    fin: bool = True,
) -> bytes:
    payload = frames.OPEN_PREFIX.pack(cls, kind, window) + codec.encode(message)
    return frame(FrameType.OPEN, stream, payload, int(fin))


def head(stream: int, message: messages.HttpHead = OK, *, fin: bool = False) -> bytes:
    return frame(FrameType.HEAD, stream, codec.encode(message), int(fin))


def accept(stream: int, window: int = 0) -> bytes:
    return frame(FrameType.ACCEPT, stream, frames.U32.pack(window) + codec.encode(messages.Accepted()))


def window(stream: int, increment: int) -> bytes:
    return frame(FrameType.WINDOW, stream, frames.U32.pack(increment))


def goaway(last_id: int, code: int = Code.DRAINING, drain_ms: int = 0) -> bytes:
    payload = frames.GOAWAY_PREFIX.pack(last_id, code, drain_ms) + codec.encode(messages.Goodbye())
    return frame(FrameType.GOAWAY, 0, payload)


def quiet() -> Pair:
    pair = Pair()
    pair.pump()
    pair.hub.log.clear()
    pair.agent.log.clear()
    return pair


def dies(side: Side, code: Code = Code.PROTOCOL) -> None:
    """The session ended because of the peer, and says so."""
    reason = side.last(events.SessionEnded).reason
    assert (reason.kind, reason.code) == (events.EndKind.PROTOCOL, code), reason
    goodbye = side.said(FrameType.GOAWAY)
    assert len(goodbye) == 1
    assert frames.GOAWAY_PREFIX.unpack_from(goodbye[0][3])[1:] == (code, 0)


def resets(side: Side, stream: int, code: Code) -> None:
    """The session lives; one RESET waits."""
    assert side.session.is_open, side.session.end_reason
    assert [(each[2], frames.RESET_PREFIX.unpack_from(each[3])[0]) for each in side.said(FrameType.RESET)] == [
        (stream, code)
    ]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x04",
        frame(FrameType.DATA, 1, b"abc")[:-1],
        frame(FrameType.PING, 0, bytes(8)) + b"\x00" * 7,
        frame(0x00, 0),
        frame(0x10, 1),
        frame(0x7F, 1),
        frame(FrameType.HELLO, 0),
        frame(FrameType.AUTH, 0),
        frame(FrameType.WELCOME, 0),
        frame(FrameType.REFUSED, 0),
        frame(FrameType.PING, 0, bytes(7)),
        frame(FrameType.PING, 2, bytes(8)),
        frame(FrameType.PING, 0, bytes(8), 2),
        frame(FrameType.DATA, 2, b"x", 2),
        frame(FrameType.OPEN, 0),
        frame(FrameType.OPEN, 1, b"\x01\x01"),
        opening(1, cls=3),
        opening(1, window=2**31),
        frame(FrameType.OPEN, 1, frames.OPEN_PREFIX.pack(0, 1, 1) + b"\x80"),
        frame(FrameType.RESET, 1, b"\x00"),
        frame(FrameType.RESET, 1, b"\x00\x01" + b"x" * 257),
        frame(FrameType.WINDOW, 1, b"\x00\x01"),
        frame(FrameType.GOAWAY, 0, b"\x00"),
        frame(FrameType.GOAWAY, 2, b"\x00"),
        frame(FrameType.MSG, 0, b""),
        frame(FrameType.MSG, 0, b"\x00" + b"x" * 16_385),
        frame(FrameType.MSG, 0, b"\x00", 4),
        frame(FrameType.SYNC, 0, b"\x00" * 6),
        frame(FrameType.SYNC, 0, b""),
        frame(FrameType.SYNC, 2, b"\x00" * 4),
        frame(FrameType.ACCEPT, 0, b"\x00" * 5),
        frame(FrameType.DATA, 0, b"\x00"),
    ],
    ids=range(33),
)
def test_malformed_messages_end_the_session(message: bytes) -> None:
    pair = quiet()
    pair.hub.receive(message)
    assert pair.hub.last(events.SessionEnded).reason.kind is events.EndKind.PROTOCOL


def test_a_message_above_256_kib_is_refused() -> None:
    pair = quiet()
    ping = frame(0x80, 0, b"x" * 65_535)
    pair.hub.receive(ping, ping, ping, ping)
    dies(pair.hub, Code.TOO_BIG)


def test_extensions_are_skipped() -> None:
    pair = quiet()
    pair.hub.receive(frame(0x80, 0), frame(0xFF, 77, b"whatever", 0xFF), frame(FrameType.PING, 0, bytes(8)))
    assert len(pair.hub.said(FrameType.PING)) == 1


# OPEN


@pytest.mark.parametrize("stream", [2, 4, 0x7FFFFFFF, 2**30 + 1])
def test_open_of_an_id_that_is_not_the_peers_ends_the_session(stream: int) -> None:
    pair = quiet()
    pair.hub.receive(opening(stream))
    dies(pair.hub)


def test_open_of_a_used_id_ends_the_session() -> None:
    pair = quiet()
    pair.hub.receive(opening(5))
    pair.hub.receive(opening(3))
    dies(pair.hub)


def test_an_unknown_kind_is_refused_and_the_session_lives() -> None:
    pair = quiet()
    pair.hub.receive(opening(1, kind=9), frame(FrameType.DATA, 1, b"late"))
    resets(pair.hub, 1, Code.REFUSED)
    assert not pair.hub.log


def test_each_kind_carries_its_own_message() -> None:
    pair = quiet()
    found: dict[int, messages.Opening] = {
        StreamKind.TCP: messages.TcpTarget(host="etcd", port=2379),
        StreamKind.HTTP: GET,
        StreamKind.CMD: messages.Command(verb="snapshot", args={"path": "/x"}, key="k"),
        StreamKind.SUB: messages.Subscription(topics=("events",)),
    }
    for number, (kind, message) in enumerate(found.items()):
        pair.hub.receive(opening(2 * number + 1, message, kind=kind))
        assert pair.hub.last(events.StreamOpened).message == message
        assert pair.hub.last(events.StreamOpened).stream.kind == kind
    pair.hub.receive(opening(9, GET, kind=StreamKind.TCP))
    dies(pair.hub)


def test_more_streams_than_agreed_are_refused_and_counted() -> None:
    pair = Pair(Limits(streams=2))
    pair.pump()
    pair.agent.receive(opening(2), opening(4), opening(6))
    resets(pair.agent, 6, Code.REFUSED)
    assert pair.agent.session.refusals == {"streams": 1, "violation": 1}
    pair.agent.receive(*(opening(stream) for stream in range(8, 40, 2)))
    dies(pair.agent)


def test_more_unanswered_opens_than_agreed_are_refused() -> None:
    pair = Pair(Limits(open_backlog=2))
    pair.pump()
    pair.agent.receive(opening(2), opening(4), opening(6))
    resets(pair.agent, 6, Code.REFUSED)


@pytest.mark.parametrize(
    "request_",
    [
        messages.HttpRequest(method="GET", path=b"/", headers=((b"a", b"b\r\nc: d"),)),
        messages.HttpRequest(method="GET", path=b"/", headers=((b"Upper", b"x"),)),
        messages.HttpRequest(method="GET", path=b"/", headers=((b"", b"x"),)),
        messages.HttpRequest(method="GET", path=b"/", headers=((b"a b", b"x"),)),
        messages.HttpRequest(method="GET", path=b"/", headers=(), upgrade="h2c"),
    ],
)
def test_illegal_requests_never_reach_the_owner(request_: messages.HttpRequest) -> None:
    pair = quiet()
    pair.hub.receive(opening(1, request_))
    resets(pair.hub, 1, Code.PROTOCOL)
    assert not pair.hub.all(events.StreamOpened)


# The answer


def asked(pair: Pair, method: str = "GET", upgrade: str = "") -> int:
    stream = pair.hub.request(method, end=not upgrade and method == "GET", upgrade=upgrade)
    pair.hub.flush()
    return stream.id


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ([frame(FrameType.DATA, 2, b"x")], "GET"),
        ([frame(FrameType.DATA, 2, b"", 1)], "GET"),
        ([accept(2), frame(FrameType.DATA, 2, b"x")], "GET"),
        ([head(2), head(2)], "GET"),
        ([head(2), accept(2)], "GET"),
        ([accept(2), accept(2)], "GET"),
        ([head(2), frame(FrameType.DATA, 2, b"", 0)], "GET"),
        ([frame(FrameType.TRAILERS, 2, codec.encode(messages.Trailers(headers=())))], "GET"),
        ([head(2)], "POST"),
        ([head(2, messages.HttpHead(status=101, headers=()))], "GET"),
        ([head(2, messages.HttpHead(status=100, headers=()))], "GET"),
        ([head(2, messages.HttpHead(status=200, headers=((b"a", b"b\nc"),)))], "GET"),
        ([head(2), frame(FrameType.DATA, 2, b"x", 1), frame(FrameType.DATA, 2, b"x")], "POST-"),
        ([window(2, 0)], "GET"),
        ([head(2), frame(FrameType.TRAILERS, 2, codec.encode(messages.Trailers(headers=((b"a", b"\0"),))))], "GET"),
    ],
    ids=range(15),
)
def test_illegal_answers_reset_their_stream_only(said: list[bytes], method: str) -> None:
    pair = quiet()
    other = pair.hub.get("/other")
    pair.hub.flush()
    stream = pair.hub.request(method.removesuffix("-"), end=method == "GET")
    pair.hub.flush()
    fixed = [each[:4] + stream.id.to_bytes(4) + each[8:] for each in said]
    if method == "POST-":
        fixed.insert(0, accept(stream.id))
    pair.hub.receive(*fixed)
    resets(pair.hub, stream.id, Code.PROTOCOL)
    assert pair.hub.last(events.StreamReset).code is Code.PROTOCOL
    pair.hub.receive(head(other.id, fin=True))
    assert pair.hub.last(events.HeadReceived).stream is other


def test_the_opener_does_not_answer_itself() -> None:
    pair = quiet()
    pair.hub.receive(opening(1), head(1))
    resets(pair.hub, 1, Code.PROTOCOL)


def test_head_belongs_to_http() -> None:
    pair = quiet()
    stream = pair.hub.dial()
    pair.hub.flush()
    pair.hub.receive(accept(stream.id), head(stream.id))
    resets(pair.hub, stream.id, Code.PROTOCOL)


def test_trailers_belong_to_http() -> None:
    pair = quiet()
    stream = pair.hub.dial()
    pair.hub.flush()
    trailers = frame(FrameType.TRAILERS, stream.id, codec.encode(messages.Trailers(headers=())))
    pair.hub.receive(accept(stream.id), trailers)
    resets(pair.hub, stream.id, Code.PROTOCOL)


def test_accept_may_add_credit() -> None:
    pair = quiet()
    stream = pair.hub.dial()
    pair.hub.flush()
    pair.hub.receive(accept(stream.id, 1000))
    assert stream.send_left == 262_144 + 1000
    pair.hub.receive(frame(FrameType.ACCEPT, stream.id, b"\0"))
    dies(pair.hub)


def test_credit_of_an_accept_wakes_a_blocked_stream() -> None:
    pair = Pair(hub_limits=Limits(window_bytes=1000), agent_limits=Limits(window_bytes=1000))
    pair.pump()
    stream = pair.hub.dial()
    pair.hub.session.send(stream, bytes(2000), now=pair.now)
    pair.hub.flush()
    assert stream.queued == 1000
    pair.hub.receive(accept(stream.id, 5000))
    pair.hub.flush()
    assert stream.queued == 0


# Credit


def test_data_beyond_the_streams_credit_resets_it() -> None:
    pair = quiet()
    stream = asked(pair)
    pair.hub.receive(head(stream), *(frame(FrameType.DATA, stream, b"x" * 32_768) for _ in range(7)))
    pair.hub.receive(frame(FrameType.DATA, stream, b"x" * 32_768), frame(FrameType.DATA, stream, b"x"))
    resets(pair.hub, stream, Code.FLOW_CONTROL)


def test_data_beyond_the_sessions_credit_ends_it() -> None:
    limits = Limits(window_bytes=65_536, window_max_bytes=65_536, session_window_bytes=65_536)
    pair = Pair(limits, limits)
    pair.pump()
    chunk = frame(FrameType.DATA, 2, b"x" * 32_768)
    pair.hub.receive(chunk, chunk, frame(FrameType.DATA, 2, b"x"))
    dies(pair.hub, Code.FLOW_CONTROL)


def test_a_data_frame_above_the_agreed_size_ends_the_session() -> None:
    pair = Pair(Limits(data_bytes=1000))
    pair.pump()
    pair.hub.receive(frame(FrameType.DATA, 2, b"x" * 1001))
    dies(pair.hub)


@pytest.mark.parametrize("increments", [[0], [0x7FFFFFFF], [0xFFFFFFFF]])
def test_session_credit_is_checked(increments: list[int]) -> None:
    pair = quiet()
    pair.hub.receive(*(window(0, each) for each in increments))
    dies(pair.hub, Code.FLOW_CONTROL)


def test_stream_credit_beyond_two_gib_resets_the_stream() -> None:
    pair = quiet()
    stream = asked(pair)
    pair.hub.receive(window(stream, 0x7FFFFFFF))
    resets(pair.hub, stream, Code.FLOW_CONTROL)


def test_credit_for_a_finished_stream_is_normal() -> None:
    pair = quiet()
    stream = asked(pair)
    pair.hub.receive(head(stream, fin=True), window(stream, 5))
    assert not pair.hub.flush()
    pair.hub.receive(window(4000, 5))
    resets(pair.hub, 4000, Code.UNKNOWN_STREAM)


# Unknown and late


def test_late_frames_of_a_reset_stream_are_swallowed_and_their_credit_returns() -> None:
    pair = quiet()
    stream = pair.hub.get()
    pair.hub.flush()
    pair.hub.session.reset_stream(stream, Code.CANCELLED, now=pair.now)
    pair.hub.flush()
    before = pair.hub.session.credit.unreturned
    pair.hub.receive(
        head(stream.id), frame(FrameType.DATA, stream.id, b"x" * 1000), frame(FrameType.RESET, stream.id, b"\0\1")
    )
    assert not pair.hub.flush()
    assert pair.hub.session.credit.unreturned == before + 1000
    pair.advance(31.0)
    pair.hub.receive(frame(FrameType.DATA, stream.id, b"x"))
    resets(pair.hub, stream.id, Code.UNKNOWN_STREAM)


def test_unknown_streams_are_answered_at_a_bounded_rate() -> None:
    pair = Pair(Limits(violations=10_000))
    pair.pump()
    for stream in range(2, 402, 2):
        pair.hub.receive(frame(FrameType.DATA, stream, b"x"))
    assert len(pair.hub.said(FrameType.RESET)) == 64
    assert pair.hub.session.is_open


def test_frames_for_streams_that_were_never_opened_end_the_session_after_ten() -> None:
    pair = quiet()
    for _ in range(10):
        pair.hub.receive(frame(FrameType.DATA, 400, b"x"))
    assert pair.hub.session.is_open
    pair.hub.receive(frame(FrameType.DATA, 400, b"x"))
    dies(pair.hub)


@pytest.mark.parametrize(
    "said",
    [
        accept(4),
        head(4),
        head(4, fin=True),
        window(4, 1000),
        frame(FrameType.DATA, 4, b"x"),
        frame(FrameType.TRAILERS, 4, codec.encode(messages.Trailers(headers=()))),
        frame(FrameType.RESET, 4, b"\0\1"),
    ],
    ids=["ACCEPT", "HEAD", "HEAD FIN", "WINDOW", "DATA", "TRAILERS", "RESET"],
)
def test_no_frame_is_for_a_stream_whose_open_has_not_left(said: bytes) -> None:
    """An answer before the question would be somebody's answer, and its OPEN would leave for a stream that is over."""
    pair = Pair(Limits(open_backlog=1))
    pair.pump()
    pair.hub.get()
    pair.hub.flush()
    held = pair.hub.get()
    given = held.send_left
    pair.hub.log.clear()
    pair.hub.receive(said)
    assert pair.hub.log == []
    assert pair.hub.session.refusals["violation"] == 1
    assert held.send_left == given
    assert pair.hub.flush() == []
    pair.hub.receive(head(2, fin=True))
    assert [found[:3] for found in pair.hub.flush()] == [(FrameType.OPEN, 1, 4)]
    pair.hub.receive(head(4, fin=True))
    assert pair.hub.last(events.HeadReceived).stream is held


def test_violations_are_forgiven_in_time() -> None:
    pair = quiet()
    for _ in range(40):
        pair.hub.receive(frame(FrameType.RESET, 400, b"\0\1"))
        pair.advance(6.1)
    assert pair.hub.session.is_open


def test_an_answer_to_no_ping_is_a_violation() -> None:
    pair = quiet()
    pair.hub.receive(frame(FrameType.PING, 0, b"12345678", 1))
    assert pair.hub.session.refusals == {"violation": 1}


def test_a_peer_that_does_not_read_control_frames_is_given_up() -> None:
    limits = Limits(control_queue_bytes=2000, unknown_burst=10_000, violations=10_000)
    pair = Pair(limits)
    pair.pump()
    pair.hub.receive(*(frame(FrameType.DATA, stream, b"x") for stream in range(2, 1000, 2)))
    assert pair.hub.last(events.SessionEnded).reason.kind is events.EndKind.TIMEOUT


# GOAWAY, SYNC


def test_goaway_may_lower_its_last_id_but_not_raise_it() -> None:
    pair = quiet()
    first, second = asked(pair), asked(pair)
    pair.hub.receive(goaway(2**31 - 1, drain_ms=1000))
    pair.hub.receive(goaway(first, drain_ms=1000))
    assert {event.stream.id: event.code for event in pair.hub.all(events.StreamReset)} == {second: Code.DRAINING}
    assert len(pair.hub.all(events.DrainReceived)) == 1
    pair.hub.receive(goaway(second, drain_ms=1000))
    dies(pair.hub)


def test_an_unknown_code_means_internal() -> None:
    pair = quiet()
    pair.hub.receive(goaway(0, code=999))
    assert pair.hub.last(events.SessionEnded).reason.code is Code.INTERNAL


def test_opens_above_our_last_id_are_swallowed() -> None:
    pair = quiet()
    pair.hub.session.drain(30.0, Code.DRAINING, "", now=pair.now)
    pair.pump()
    pair.hub.receive(opening(1), frame(FrameType.DATA, 1, b"x"))
    assert not pair.hub.flush()
    assert not pair.hub.all(events.StreamOpened)


def test_sync_spares_what_the_peer_cannot_know_yet() -> None:
    pair = quiet()
    fresh = pair.hub.get()
    pair.hub.flush()
    pair.hub.receive(frame(FrameType.SYNC, 0, bytes(4)))
    assert not fresh.is_closed


def test_sync_with_ids_that_never_were_is_a_violation() -> None:
    pair = quiet()
    pair.hub.receive(frame(FrameType.SYNC, 0, bytes(4) + (777).to_bytes(4)))
    assert pair.hub.session.refusals == {"violation": 1}


def test_sync_with_a_finished_stream_resets_it_there() -> None:
    pair = quiet()
    stream = asked(pair)
    pair.hub.receive(head(stream, fin=True))
    pair.hub.receive(frame(FrameType.SYNC, 0, bytes(4) + stream.to_bytes(4)))
    resets(pair.hub, stream, Code.UNKNOWN_STREAM)
