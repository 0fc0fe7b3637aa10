"""facts/security.md §2.E at the protocol, one test a row. Rows that need the hub's HTTP side continue there.

The rows are also walked through in detail by test_codec (E1-E5), test_inbound (E6-E12) and test_machine (E14, E18).
"""

import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proto import codec, errors, events, frames, messages
from proto.errors import Code
from proto.frames import FrameType
from proto.handshake import HubHandshake
from proto.limits import Limits
from tests.proto.pair import NONCE, OK, Pair
from tests.proto.test_inbound import accept, dies, frame, head, opening, quiet, resets, window


def test_e1_a_length_claim_allocates_nothing() -> None:
    pair = quiet()
    tracemalloc.start()
    pair.hub.receive(frame(FrameType.OPEN, 1, frames.OPEN_PREFIX.pack(1, 1, 1) + b"\xdd\xff\xff\xff\xff"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    dies(pair.hub)


def test_e2_amplification_is_bounded_by_the_payload_limit() -> None:
    tracemalloc.start()
    with pytest.raises(errors.ProtocolError):
        codec.decode(messages.HttpHead, b"\xdc\xee\x00" + b"\x80" * 0xEE00)
    most = messages.HttpHead(status=200, headers=((b"", b""),) * 1024)
    codec.decode(messages.HttpHead, codec.encode(most))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_500_000
    pair = quiet()
    pair.hub.receive(frame(FrameType.HEAD, 2, b"\x80" * 61_441))
    assert pair.hub.session.is_open  # an unknown stream's payload is not even decoded
    pair.hub.get()
    pair.hub.flush()
    pair.hub.receive(frame(FrameType.HEAD, 2, b"\x80" * 61_441))
    dies(pair.hub, Code.TOO_BIG)


def test_e3_depth_ends_the_session_and_nothing_else() -> None:
    pair = quiet()
    pair.hub.receive(frame(FrameType.OPEN, 1, frames.OPEN_PREFIX.pack(1, 1, 1) + b"\x91" * 60_000))
    dies(pair.hub)


def test_e4_rejected_keys_leak_nothing() -> None:
    bad = b"\x81\x01\xc5\x27\x10" + bytes(10_000)
    tracemalloc.start()
    for _ in range(500):
        with pytest.raises(errors.ProtocolError):
            codec.decode(messages.HttpHead, bad)
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left < 200_000


def test_e5_ambiguous_maps_end_the_session() -> None:
    pair = quiet()
    twice = b"\x83\xa6method\xa3GET\xa6method\xa3PUT\xa4path\xc4\x01/\xa7headers\x90"
    pair.hub.receive(frame(FrameType.OPEN, 1, frames.OPEN_PREFIX.pack(1, 1, 1) + twice))
    dies(pair.hub)


def test_e6_ids_do_not_wrap_repeat_or_change_hands() -> None:
    for stream in (0, 2, 2**30 + 1, 2**31 - 1, 2**32 - 1):
        pair = quiet()
        pair.hub.receive(opening(stream))
        dies(pair.hub)
    pair = quiet()
    pair.hub.receive(opening(1), frame(FrameType.RESET, 1, b"\0\6"))
    pair.hub.receive(opening(1))
    dies(pair.hub)


def test_e7_credit_is_checked_arithmetic() -> None:
    pair = quiet()
    pair.hub.get()
    pair.hub.flush()
    pair.hub.receive(window(2, 2**32 - 1))
    resets(pair.hub, 2, Code.FLOW_CONTROL)
    pair = quiet()
    pair.hub.receive(window(0, 2**32 - 1))
    dies(pair.hub, Code.FLOW_CONTROL)
    pair = quiet()
    pair.hub.receive(window(1, 5))
    resets(pair.hub, 1, Code.UNKNOWN_STREAM)


def test_e8_data_beyond_the_window_is_reset_then_fatal() -> None:
    pair = Pair(Limits(window_bytes=100))
    pair.pump()
    for number in range(11):
        stream = pair.hub.get()
        pair.hub.flush()
        pair.hub.receive(head(stream.id), frame(FrameType.DATA, stream.id, bytes(101)))
        if number < 10:
            resets(pair.hub, stream.id, Code.FLOW_CONTROL)
    dies(pair.hub)


def test_e9_open_and_reset_floods_meet_a_bucket() -> None:
    pair = quiet()
    stream = 1
    while pair.hub.session.is_open and stream < 40_000:
        pair.hub.receive(opening(stream), frame(FrameType.RESET, stream, b"\0\6"))
        pair.hub.flush()
        stream += 2
    assert len(pair.hub.all(events.StreamOpened)) == 4096
    assert pair.hub.last(events.SessionEnded).reason.code is Code.OVERLOADED


def test_e9_opens_that_the_hub_refuses_one_by_one_are_a_flood_too() -> None:
    pair = quiet()
    stream = 1
    while pair.hub.session.is_open and stream < 40_000:
        pair.hub.receive(opening(stream))
        for event in pair.hub.all(events.StreamOpened)[-1:]:
            pair.hub.session.reset_stream(event.stream, Code.FORBIDDEN, now=pair.now)
        pair.hub.flush()
        stream += 2
    assert pair.hub.last(events.SessionEnded).reason.code is Code.OVERLOADED


def test_e10_metadata_has_one_size_and_no_continuation() -> None:
    with pytest.raises(errors.MessageTooBig):
        codec.encode(messages.HttpHead(status=200, headers=((b"a", bytes(61_440)),)))
    assert "CONTINUATION" not in FrameType.__members__


def test_e11_a_stream_is_answered_only_by_the_session_that_was_asked() -> None:
    pair, other = quiet(), quiet()
    asked = other.hub.get("/secret")
    other.hub.flush()
    for _ in range(11):
        pair.hub.receive(head(asked.id), frame(FrameType.DATA, asked.id, b"forged"))
    assert not pair.hub.all(events.HeadReceived)
    assert not other.hub.all(events.DataReceived)
    assert not pair.hub.session.is_open
    assert other.hub.session.is_open


@pytest.mark.parametrize(
    "said",
    [
        [frame(FrameType.DATA, 2, b"before head")],
        [head(2), head(2)],
        [head(2), frame(FrameType.DATA, 2, b"x"), head(2)],
        [head(2, fin=True), frame(FrameType.DATA, 2, b"x")],
        [accept(2), accept(2)],
        [
            head(2),
            frame(FrameType.TRAILERS, 2, codec.encode(messages.Trailers(headers=()))),
            frame(FrameType.DATA, 2, b"x"),
        ],
    ],
)
def test_e12_illegal_orders_cost_the_stream(said: list[bytes]) -> None:
    pair = quiet()
    pair.hub.request("GET", upgrade="websocket")  # our half stays open, so the stream is there to be reset
    pair.hub.flush()
    pair.hub.receive(*said)
    resets(pair.hub, 2, Code.PROTOCOL)


@pytest.mark.parametrize(
    "field",
    [
        (b"a", b"b\r\nset-cookie: x"),
        (b"a", b"b\n"),
        (b"a", b"b\0"),
        (b"a\r\nb", b"c"),
        (b"a:b", b"c"),
        (b"", b"c"),
        (b"Content-Length", b"1"),
    ],
)
def test_e13_a_forged_head_never_reaches_the_owner(field: tuple[bytes, bytes]) -> None:
    pair = quiet()
    pair.hub.get()
    pair.hub.flush()
    pair.hub.receive(head(2, messages.HttpHead(status=200, headers=(field,))))
    resets(pair.hub, 2, Code.PROTOCOL)
    assert not pair.hub.all(events.HeadReceived)


def test_e14_a_cut_body_never_ends() -> None:
    pair = quiet()
    pair.hub.get()
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.head(taken)
    pair.agent.send(taken, b"first half")
    pair.pump()
    pair.agent.send(taken, b"second half", end=True)
    pair.hub.session.receive_eof()
    assert not [event for event in pair.hub.all(events.DataReceived) if event.end]
    assert pair.hub.last(events.StreamReset).code is Code.SESSION_LOST


def test_e15_a_lost_stream_says_whether_it_may_be_sent_again() -> None:
    pair = Pair(Limits(open_backlog=1))
    sent, held = pair.hub.request("POST"), pair.hub.request("POST")
    pair.hub.flush()
    pair.hub.session.receive_eof()
    fates = {event.stream: event.code for event in pair.hub.all(events.StreamReset)}
    assert fates[sent] not in errors.UNEXECUTED
    assert fates[held] in errors.UNEXECUTED


def test_e16_slow_consumers_hold_a_window_each() -> None:
    pair = Pair()
    slow = [pair.hub.get() for _ in range(50)]
    pair.pump()
    for event in pair.agent.all(events.StreamOpened):
        pair.agent.head(event.stream)
        pair.agent.send(event.stream, bytes(1_000_000))
    pair.pump()
    assert all(stream.buffered == 256 * 1024 for stream in slow)
    quick = pair.hub.get()
    pair.pump()
    pair.agent.head(pair.agent.taken())
    pair.agent.send(pair.agent.taken(), b"at once", end=True)
    assert pair.move(pair.agent, pair.hub)
    assert pair.hub.body(quick) == b"at once"


def test_e17_a_trickle_is_not_the_sessions_business() -> None:
    """One byte in ten seconds keeps a watch alive; time-outs of requests belong to the hub."""
    pair = quiet()
    stream = pair.hub.get("/watch")
    pair.pump()
    pair.agent.head(pair.agent.taken())
    for _ in range(20):
        pair.agent.send(pair.agent.taken(), b".")
        pair.advance(10.0)
    assert pair.hub.body(stream) == b"." * 20


FRAMES = st.builds(
    frames.encode,
    st.sampled_from([*FrameType, 0x00, 0x42, 0x80, 0xFF]),
    st.sampled_from([0, 0, 0, 1, 2, 255]),
    st.sampled_from([0, 1, 2, 3, 4, 5, 2**30, 2**32 - 1]),
    st.binary(max_size=40)
    | st.sampled_from(
        [codec.encode(OK), frames.U32.pack(5), frames.U32.pack(0) + b"\x80", bytes(8), bytes(10) + b"\x80"]
    )
    | st.binary(max_size=20).map(lambda tail: frames.OPEN_PREFIX.pack(1, 1, 9) + tail),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(FRAMES, max_size=5).map(b"".join) | st.binary(max_size=60), max_size=8))
@example([b""])
def test_e18_nothing_that_arrives_raises(said: list[bytes]) -> None:
    pair = Pair()
    pair.hub.get()
    pair.hub.request("POST")
    pair.hub.dial()
    pair.hub.flush()
    for message in said:
        pair.hub.receive(message)
        pair.hub.flush()
    kept = sum(stream.buffered for stream in pair.hub.session.table.streams.values())
    assert kept <= sum(map(len, said))


def test_e19_an_older_version_than_the_operator_allows_is_refused() -> None:
    hub = HubHandshake("hub", NONCE, Limits(), wire_versions=(2, 2))
    hub.hello()
    auth = messages.AgentAuth(
        role="cluster",
        instance=bytes(16),
        epoch=1,
        versions=(1, 1),
        limits=Limits().offer(),
        credential=messages.Credential(scheme="bearer", value=b"x"),
    )
    with pytest.raises(errors.VersionMismatch):
        hub.receive(frames.encode(FrameType.AUTH, 0, 0, codec.encode(auth)))


def test_e20_no_message_carries_a_time_of_day() -> None:
    """But for the proofs, whose time the hub compares with its own before it believes anything else."""
    for kind in set(codec._TYPES) - {messages.SignatureProof, messages.JoinProof, messages.Transcript}:
        assert not [name for name in kind.__struct_fields__ if name.endswith("_at") or "time" in name]
