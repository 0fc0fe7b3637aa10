import pytest

from proto import errors, frames
from proto.limits import MESSAGE_MAX_BYTES, MESSAGE_TARGET_BYTES, Limits
from proto.messages import StreamClass, StreamKind
from proto.outbox import Outbox
from proto.pacing import Pacing
from proto.stream import Stream
from proto.window import SessionCredit


def outbox(limits: Limits | None = None, backlog: int = 256, grant: int = 10) -> Outbox:
    nonces = iter(range(1, 2**32))
    return Outbox(
        limits or Limits(),
        32_768,
        backlog,
        SessionCredit(2**24),
        lambda stream, now: grant,
        Pacing(200.0),
        lambda now: next(nonces).to_bytes(8, "big"),
    )


def stream(number: int, cls: StreamClass = StreamClass.NORMAL) -> Stream:
    made = Stream(number, StreamKind.TCP, cls, is_ours=True, window=5, send_left=2**30, now=0.0)
    made.own_half = 3
    return made


def kinds(message: bytes) -> list[int]:
    return [frame[0] for frame in frames.split(message)]


def test_the_order_within_a_message() -> None:
    out = outbox()
    data, opened, credited = stream(2), stream(4), stream(6)
    data.push(b"data")
    out.queued = 4
    out.scheduler.add(data, 0.0)
    out.message(1, b"msg", droppable=True)
    out.open(opened, frames.encode(2, 0, 4, b"open"))
    out.window(credited)
    out.window(credited)
    out.session_window()
    out.control(frames.encode(7, 0, 0, bytes(8)))
    assert kinds(out.take(1.0)) == [7, 5, 5, 2, 4, 9]
    assert not out
    assert out.take(1.0) == b""
    assert out.queued == 0


def test_a_window_mark_without_credit_writes_nothing() -> None:
    out = outbox(grant=0)
    out.window(stream(2))
    assert out
    assert out.take(1.0) == b""
    assert not out


def test_messages_end_near_their_target_and_far_below_the_receivers_limit() -> None:
    out = outbox()
    for number in range(2, 22, 2):
        made = stream(number)
        made.push(bytes(200_000))
        made.prefix = frames.encode(12, 0, number, bytes(61_000))
        out.scheduler.add(made, 0.0)
        out.open(stream(number + 100), frames.encode(2, 0, number + 100, bytes(61_000)))
    while out:
        message = out.take(1.0)
        assert len(message) <= MESSAGE_TARGET_BYTES + 61_000 + 32_768 + 100 < MESSAGE_MAX_BYTES


def test_control_frames_are_cut_into_messages_too() -> None:
    out = outbox()
    for _ in range(10_000):
        out.control(frames.encode(6, 0, 2, b"\0\1"))
    assert len(out.take(1.0)) <= MESSAGE_TARGET_BYTES + 10
    assert out
    assert not out.control_overflow
    for _ in range(110_000):
        out.control(frames.encode(6, 0, 2, b"\0\1"))
    assert out.control_overflow


def filled(out: Outbox, cls: StreamClass, size: int = 10_000_000, number: int = 2) -> Stream:
    made = stream(number, cls)
    made.push(bytes(size))
    out.scheduler.add(made, 0.0)
    return made


def test_bulk_ends_in_marks_and_waits_for_their_answers() -> None:
    out = outbox()
    filled(out, StreamClass.BULK)
    first = out.take(1.0)
    assert kinds(first)[-1] == 7
    while out:
        message = out.take(1.0)
        assert len(message) <= MESSAGE_TARGET_BYTES + 32_768 + 40
    assert out.pacing.is_blocked
    assert 128 * 1024 <= out.pacing.on_way <= 128 * 1024 + 100_000
    assert not out.is_stalled  # it waits for us, not for the peer's credit
    out.pacing.answered(frames.split(first)[-1][3], 0.05, 1.05)
    assert out


def test_others_never_wait_for_the_link() -> None:
    out = outbox()
    filled(out, StreamClass.BULK)
    while out:
        out.take(1.0)
    for number, cls in ((4, StreamClass.INTERACTIVE), (6, StreamClass.NORMAL)):
        filled(out, cls, 100, number)
        assert [frame[2] for frame in frames.split(out.take(1.0))] == [number]
    out.control(frames.encode(6, 0, 2, b"\0\1"))
    assert kinds(out.take(1.0)) == [6]
    assert not out


def test_no_mark_overtakes_a_ping_that_waits() -> None:
    """The peer answers pings in the order of their arrival, and we expect the answers in the order of our numbers."""
    out = outbox()
    filled(out, StreamClass.BULK)
    for _ in range(7000):
        out.control(frames.encode(6, 0, 2, b"\0\1"))
    found: list[int] = []
    while out._control:
        assert 7 not in found
        found = kinds(out.take(1.0))
    assert found[-1] == 7


def test_without_session_credit_data_waits_and_control_does_not() -> None:
    out = outbox()
    made = stream(2)
    made.push(b"abc")
    out.scheduler.add(made, 0.0)
    out._credit.send_left = 0
    assert not out
    out.control(frames.encode(7, 0, 0, bytes(8)))
    assert kinds(out.take(1.0)) == [7]
    out._credit.send_left = 2
    assert frames.split(out.take(1.0)) == [(4, 0, 2, b"ab")]


def test_opens_wait_for_room_and_forgotten_ones_are_skipped() -> None:
    out = outbox(Limits(open_queue_bytes=100), backlog=1)
    first, second, third = stream(2), stream(4), stream(6)
    for made in (first, second, third):
        out.open(made, frames.encode(2, 0, made.id, b"x"))
    assert frames.split(out.take(1.0))[0][2] == 2
    assert first.sent_at == 1.0
    assert not out
    out.forget_held(second)
    second.drop()
    out.backlog_room = 1
    assert frames.split(out.take(2.0))[0][2] == 6
    assert out.held() == []
    with pytest.raises(errors.TooManyStreams):
        out.open(stream(8), bytes(101))
    out.open(stream(8), bytes(99))


def test_forgotten_opens_never_outnumber_those_that_wait() -> None:
    """One client waits for a peer that answers nothing; all that come after it give up."""
    out = outbox(backlog=1)
    sent, waits = stream(2), stream(4)
    out.open(sent, b"2")
    out.open(waits, b"4")
    assert out.take(1.0) == b"2"
    for number in range(6, 600, 2):
        gone = stream(number)
        out.open(gone, b"x")
        out.forget_held(gone)
        assert len(out._opens) <= 3
    last, gone = stream(600), stream(602)
    for made, frame in ((last, b"6"), (gone, b"x")):
        out.open(made, frame)
    out.forget_held(gone)
    out.backlog_room = 3
    assert out.take(2.0) == b"46"
    assert not out._opens
    assert out._forgotten == 0


def test_data_of_a_held_stream_follows_its_open() -> None:
    out = outbox()
    made = stream(2)
    out.open(made, frames.encode(2, 0, 2, b"x"))
    made.push(b"body")
    assert not made.is_ready()
    assert kinds(out.take(1.0)) == [2, 4]


def test_clear_leaves_room_for_the_goodbye_only() -> None:
    out = outbox()
    out.message(1, b"x", droppable=False)
    out.window(stream(2))
    out.control(b"x" * 8)
    out.clear()
    assert not out
    out.control(frames.encode(8, 0, 0, bytes(11)))
    assert kinds(out.take(1.0)) == [8]
