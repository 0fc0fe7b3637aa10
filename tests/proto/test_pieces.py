"""proto/pieces.py: bytes that wait in pieces."""

import collections

from hypothesis import given
from hypothesis import strategies as st

from proto.pieces import FEW, FULL_BYTES, Buffer, put


def test_the_first_wait_as_they_came() -> None:
    pieces: collections.deque[Buffer] = collections.deque()
    came = [bytes((number,)) for number in range(FEW)]
    for piece in came:
        put(pieces, piece)
    assert all(waits is piece for waits, piece in zip(pieces, came, strict=True))


def test_small_ones_behind_them_are_put_together_until_they_are_much() -> None:
    pieces: collections.deque[Buffer] = collections.deque(b"." for _ in range(FEW))
    for _ in range(3 * FULL_BYTES):
        put(pieces, b"x")
    assert [len(piece) for piece in pieces] == [1] * FEW + [FULL_BYTES] * 3


def test_a_large_one_is_not_copied_and_nothing_is_added_to_it() -> None:
    pieces: collections.deque[Buffer] = collections.deque(b"." for _ in range(FEW))
    large = bytearray(FULL_BYTES)
    put(pieces, large)
    put(pieces, memoryview(b"x"))
    assert pieces[-2] is large
    assert (len(large), pieces[-1]) == (FULL_BYTES, b"x")


@given(st.lists(st.binary(max_size=FULL_BYTES * 2), max_size=60))
def test_what_waits_is_what_came(came: list[bytes]) -> None:
    pieces: collections.deque[Buffer] = collections.deque()
    for number, piece in enumerate(came):
        put(pieces, memoryview(piece) if number % 2 else piece)
    assert b"".join(pieces) == b"".join(came)
