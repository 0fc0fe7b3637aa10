"""hub/edge/unsent.py: what waits for the client."""

from hypothesis import given
from hypothesis import strategies as st

from hub.edge.unsent import FEW, FULL_BYTES, Unsent


@given(st.lists(st.binary(max_size=50), max_size=100), st.integers(0, 200))
def test_what_comes_out_is_what_went_in(pieces: list[bytes], most: int) -> None:
    unsent = Unsent()
    for piece in pieces:
        unsent.append(piece)
    assert len(unsent) == sum(map(len, pieces))
    taken = b""
    for _ in pieces:
        if unsent:
            taken += unsent.take(most)
            assert len(unsent) == sum(map(len, pieces)) - len(taken)
    assert taken == b"".join(pieces)


def test_pieces_leave_together_as_far_as_they_fit_and_the_first_in_any_case() -> None:
    unsent = Unsent()
    for piece in (b"a" * 300, b"b" * 60, b"c" * 40, b"d"):
        unsent.append(piece)
    assert unsent.take(100) == b"a" * 300
    assert unsent.take(100) == b"b" * 60 + b"c" * 40
    unsent.append(b"e")
    assert unsent.take() == b"de"
    assert not unsent


def test_many_small_pieces_are_put_together() -> None:
    """A hostile cluster may send a window's bytes one by one."""
    unsent = Unsent()
    for _ in range(256 * 1024):
        unsent.append(b"x")
    assert len(unsent._pieces) <= FEW + 256 * 1024 // FULL_BYTES + 1
    assert len(unsent) == 256 * 1024
    unsent.clear()
    assert not unsent
