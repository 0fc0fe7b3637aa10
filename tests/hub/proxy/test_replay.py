"""hub/proxy/replay.py: what may be asked again, by table; and the body that is kept for it."""

from __future__ import annotations

import sys

import pytest

from hub.proxy.replay import (
    ATTEMPTS_MAX,
    BROKEN_OFF,
    KEPT_BYTES_ALL,
    KEPT_BYTES_MAX,
    PIECE_BYTES,
    ROUTES_MAX,
    SHORT_BYTES,
    UNREACHED,
    KeptBody,
    KeptBytes,
    may_repeat,
    why,
)
from proto.errors import Code

MIB = 1024 * 1024
NEVER_REACHED = {
    Code.REFUSED, Code.DRAINING, Code.DIAL_REFUSED, Code.DIAL_TIMEOUT, Code.DIAL_DNS, Code.DIAL_UNREACHABLE,
    Code.KUBE_UNAUTHORIZED,
}  # fmt: skip
ANOTHER_WAY = {Code.SESSION_LOST, Code.CLOSED, Code.UPSTREAM, Code.OVERLOADED}


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("was_sent", [True, False], ids=["sent", "not sent"])
@pytest.mark.parametrize("is_mutation", [True, False], ids=["change", "question"])
def test_every_end(code: Code, was_sent: bool, is_mutation: bool) -> None:
    expected = not was_sent or code in NEVER_REACHED or (not is_mutation and code in ANOTHER_WAY)
    assert may_repeat(code, was_sent=was_sent, is_mutation=is_mutation, attempts=1) is expected
    assert not may_repeat(code, was_sent=was_sent, is_mutation=is_mutation, attempts=ROUTES_MAX)
    is_sure = not was_sent or code in NEVER_REACHED
    assert may_repeat(code, was_sent=was_sent, is_mutation=is_mutation, attempts=ATTEMPTS_MAX) is is_sure


def test_the_two_sets_do_not_meet() -> None:
    assert not UNREACHED & BROKEN_OFF


@pytest.mark.parametrize(
    ("code", "was_sent", "said"),
    [
        (Code.SESSION_LOST, False, "refused"),
        (Code.REFUSED, True, "refused"),
        (Code.DIAL_DNS, True, "unreachable"),
        (Code.KUBE_UNAUTHORIZED, True, "unreachable"),
        (Code.SESSION_LOST, True, "lost"),
    ],
)
def test_why(code: Code, was_sent: bool, said: str) -> None:
    assert why(code, was_sent=was_sent) == said


def test_a_body_is_kept_up_to_its_bound_and_given_back() -> None:
    books = KeptBytes()
    body = KeptBody(books)
    body.add(b"abc", was_sent=True)
    body.add(b"d" * (KEPT_BYTES_MAX - 3 - 2 * PIECE_BYTES), was_sent=True)
    assert (body.is_whole, books.used) == (True, KEPT_BYTES_MAX)
    body.add(b"e", was_sent=True)
    assert (body.is_whole, body.pieces, books.used) == (False, [], 0)
    body.add(b"f", was_sent=True)
    body.drop()
    assert (body.pieces, books.used) == ([], 0)


@pytest.mark.parametrize("size", [512, 1_400, 16_384, 65_536, 3 * MIB])
def test_whatever_an_api_server_takes_is_kept_in_whatever_pieces_it_comes(size: int) -> None:
    body = KeptBody(KeptBytes())
    for _ in range(0, 3 * MIB, size):
        body.add(b"x" * size, was_sent=True)
    assert body.is_whole


def test_a_piece_costs_more_than_its_bytes() -> None:
    """Or a body of single bytes would take forty times what is counted."""
    books = KeptBytes()
    body = KeptBody(books)
    while body.is_whole:
        body.add(b"x", was_sent=True)
        assert books.used <= KEPT_BYTES_MAX
        assert len(body.pieces) * (sys.getsizeof(b"x") + 8) <= KEPT_BYTES_MAX
    assert books.used == 0


def test_the_pieces_are_the_objects_that_are_sent() -> None:
    body, piece = KeptBody(KeptBytes()), b"x" * 1000
    body.add(piece, was_sent=True)
    assert body.pieces[0] is piece


def test_what_was_not_sent_yet_is_never_lost() -> None:
    books = KeptBytes(budget=80)
    body = KeptBody(books)
    body.add(b"x" * (KEPT_BYTES_MAX + 1), was_sent=False)
    assert (body.is_whole, len(body.pieces)) == (True, 1)
    body.sent()
    assert (body.is_whole, body.pieces, books.used) == (False, [], 0)


def test_all_bodies_together_are_bounded() -> None:
    books = KeptBytes(budget=8 * 140)
    one, two = KeptBody(books), KeptBody(books)
    one.add(b"12345678", was_sent=True)
    two.add(b"12345678", was_sent=True)
    assert (one.is_whole, two.is_whole, books.used) == (True, False, 72)


def test_long_bodies_leave_half_to_the_short_ones() -> None:
    books = KeptBytes()
    long_ones = [KeptBody(books) for _ in range(20)]
    for each in long_ones:
        each.add(b"x" * 3 * MIB, was_sent=True)
    assert sum(each.is_whole for each in long_ones) == 5
    short = KeptBody(books)
    short.add(b"x" * (SHORT_BYTES - PIECE_BYTES), was_sent=True)
    assert short.is_whole
    assert books.used <= KEPT_BYTES_ALL


def test_a_small_hub_keeps_less() -> None:
    books = KeptBytes(budget=8 * MIB)
    body = KeptBody(books)
    body.add(b"x" * MIB, was_sent=True)
    assert not body.is_whole
    assert KeptBytes(budget=10**12).has_room(0)
