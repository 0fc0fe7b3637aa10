import pytest

from proto import errors, frames
from proto.limits import MESSAGE_MAX_BYTES, MESSAGE_TARGET_BYTES, Limits
from proto.messages import StreamClass, StreamKind
from proto.outbox import Outbox
from proto.stream import Stream
from proto.window import SessionCredit


def outbox(limits: Limits | None = None, backlog: int = 256, grant: int = 10) -> Outbox:
    return Outbox(limits or Limits(), 32_768, backlog, SessionCredit(2**24), lambda stream, now: grant)


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


def test_a_slow_transport_gets_small_frames_and_messages() -> None:
    out = outbox()
    made = stream(2, StreamClass.BULK)
    made.push(bytes(10_000_000))
    out.scheduler.add(made, 0.0)
    now = 1.0
    assert len(out.take(now)) > 60_000
    for _ in range(3):
        now += 0.1  # 64 KiB in 100 ms
        message = out.take(now)
    assert out.is_slow
    assert len(message) < 17_000
    for _ in range(40):
        now += 0.001  # 16 KiB in 1 ms
        message = out.take(now)
    assert not out.is_slow
    assert len(message) > 60_000


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
