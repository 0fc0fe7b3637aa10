from hypothesis import given
from hypothesis import strategies as st

from proto import frames
from proto.messages import StreamClass, StreamKind
from proto.pieces import FEW, FULL_BYTES, Buffer
from proto.stream import Stream


def stream(credit: int = 1000) -> Stream:
    made = Stream(2, StreamKind.TCP, StreamClass.NORMAL, is_ours=True, window=5, send_left=credit, now=0.0)
    made.own_half = 3
    return made


def filled(made: Stream, quantum: int) -> list[tuple[int, int, int, bytes]]:
    out: list[Buffer] = []
    made.fill(out, quantum)
    return frames.split(b"".join(out)) if out else []


def test_chunks_share_a_frame_and_large_ones_are_cut() -> None:
    made = stream()
    made.push(b"ab")
    made.push(bytearray(b"cd"))
    made.push(memoryview(b"efgh"))
    assert filled(made, 6) == [(4, 0, 2, b"abcdef")]
    made.end_queued = True
    assert filled(made, 6) == [(4, 1, 2, b"gh")]
    assert made.own_half == 4
    assert made.moved == 8


def test_an_end_without_bytes_is_an_empty_frame() -> None:
    made = stream(credit=0)
    made.end_queued = True
    assert made.is_ready()
    assert filled(made, 100) == [(4, 1, 2, b"")]


def test_the_end_waits_for_credit() -> None:
    made = stream(credit=3)
    made.push(b"abcde")
    made.end_queued = True
    assert filled(made, 100) == [(4, 0, 2, b"abc")]
    assert not made.is_ready()
    made.send_left = 2
    assert filled(made, 100) == [(4, 1, 2, b"de")]


def test_prefix_first_suffix_last() -> None:
    made = stream()
    made.prefix, made.suffix, made.end_queued = frames.encode(12, 0, 2, b"h"), frames.encode(11, 0, 2, b"t"), True
    made.push(b"body")
    assert [frame[0] for frame in filled(made, 2)] == [12, 4]
    assert made.own_half == 3
    assert [frame[:2] for frame in filled(made, 2)] == [(4, 0), (11, 0)]
    assert made.own_half == 4


def test_a_prefix_leaves_without_credit_and_may_be_all() -> None:
    made = stream(credit=0)
    made.prefix, made.prefix_ends, made.end_queued = frames.encode(12, 1, 2, b"h"), True, True
    made.push(b"")
    assert [frame[:2] for frame in filled(made, 100)] == [(12, 1)]
    assert made.own_half == 4


def test_drop_forgets_everything_unsent() -> None:
    made = stream()
    made.push(b"abc")
    made.prefix = b"x"
    assert made.drop() == 3
    assert (made.queued, made.queue, made.prefix, made.suffix) == (0, None, None, None)
    assert not made.is_ready()


def test_single_bytes_take_little_more_room_than_they_are() -> None:
    """A client that writes byte by byte to a cluster that does not read."""
    made = stream(credit=100_000)
    for number in range(50_000):
        made.push(bytes((number % 251,)))
    assert (made.queued, made.queue is not None and len(made.queue) <= FEW + 4) == (50_000, True)
    made.push(large := bytes(FULL_BYTES))
    assert made.queue is not None
    assert made.queue[-1] is large, "that is not copied"
    made.end_queued = True
    found = b"".join(frame[3] for _ in range(2) for frame in filled(made, 50_000))
    assert found == bytes(number % 251 for number in range(50_000)) + large


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=60), st.integers(1, 40))
def test_bytes_keep_their_order_whatever_the_cuts(chunks: list[bytes], quantum: int) -> None:
    made = stream(credit=10_000)
    for chunk in chunks:
        made.push(chunk)
    made.end_queued = True
    found = []
    while made.is_ready():
        found += filled(made, quantum)
    assert b"".join(frame[3] for frame in found) == b"".join(chunks)
    assert [frame[1] for frame in found] == [0] * (len(found) - 1) + [1]
    assert all(len(frame[3]) <= quantum for frame in found)
