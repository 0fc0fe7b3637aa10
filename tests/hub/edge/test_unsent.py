"""hub/edge/unsent.py: what waits for the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.edge.unsent import FRUGAL_BYTES, PIECE_BYTES, READ_BYTES, Unsent
from proto.pieces import FEW, FULL_BYTES


@given(st.lists(st.binary(max_size=FRUGAL_BYTES // 3), max_size=50), st.booleans())
def test_what_comes_out_is_what_went_in(pieces: list[bytes], is_frugal: bool) -> None:
    unsent = Unsent()
    unsent.is_frugal = is_frugal
    for number, piece in enumerate(pieces):
        unsent.append(memoryview(piece) if number % 2 else piece)
    assert len(unsent) == sum(map(len, pieces))
    taken = b""
    for _ in range(len(pieces) // 2):
        if unsent:
            taken += unsent.take()
            assert len(unsent) == sum(map(len, pieces)) - len(taken)
    assert taken + unsent.take_all() == b"".join(pieces)
    assert not unsent


@pytest.mark.parametrize(("is_frugal", "most"), [(False, PIECE_BYTES), (True, FRUGAL_BYTES)])
def test_pieces_leave_together_as_far_as_they_fit_and_the_first_in_any_case(is_frugal: bool, most: int) -> None:
    unsent = Unsent()
    unsent.is_frugal = is_frugal
    for piece in (b"a" * (most + 1), b"b" * 60, b"c" * (most - 60), b"d"):
        unsent.append(piece)
    assert unsent.take() == b"a" * (most + 1)
    assert unsent.take() == b"b" * 60 + b"c" * (most - 60)
    unsent.append(b"e")
    assert unsent.take() == b"de"
    assert not unsent


def test_what_waits_longer_holds_no_message() -> None:
    message = bytearray(b"a" * 4097)
    unsent = Unsent()
    unsent.append(memoryview(message)[:4096])
    unsent.append(memoryview(message)[:1])
    with pytest.raises(BufferError):
        message.clear()
    unsent.own()
    message.clear()
    unsent.own()
    assert unsent.take() == b"a" * 4097


def test_who_has_taken_much_of_an_answer_reads_it() -> None:
    unsent = Unsent()
    for size in (READ_BYTES - 1, 1):
        assert not unsent.is_read
        unsent.append(b"a" * size)
        unsent.take()
    assert unsent.is_read
    unsent.begin()
    assert not unsent.is_read


def test_many_small_pieces_are_put_together() -> None:
    """A hostile cluster may send a window's bytes one by one."""
    unsent = Unsent()
    for _ in range(256 * 1024):
        unsent.append(b"x")
    assert len(unsent._pieces) <= FEW + 256 * 1024 // FULL_BYTES + 1
    assert len(unsent) == 256 * 1024
    unsent.clear()
    assert not unsent
