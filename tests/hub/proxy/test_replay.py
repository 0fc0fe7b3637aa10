"""hub/proxy/replay.py: what may be asked again, by table; and the body that is kept for it."""

from __future__ import annotations

import pytest

from hub.proxy.replay import (
    ATTEMPTS_MAX,
    BROKEN_OFF,
    KEPT_BYTES_MAX,
    ROUTES_MAX,
    UNREACHED,
    KeptBody,
    KeptBytes,
    may_repeat,
    why,
)
from proto.errors import Code

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
    body.add(b"d" * (KEPT_BYTES_MAX - 3), was_sent=True)
    assert (body.is_whole, books.used) == (True, KEPT_BYTES_MAX)
    body.add(b"e", was_sent=True)
    assert (body.is_whole, body.pieces, books.used) == (False, [], 0)
    body.add(b"f", was_sent=True)
    body.drop()
    assert (body.pieces, books.used) == ([], 0)


def test_what_was_not_sent_yet_is_never_lost() -> None:
    books = KeptBytes(limit=10)
    body = KeptBody(books)
    body.add(b"x" * (KEPT_BYTES_MAX + 1), was_sent=False)
    assert (body.is_whole, len(body.pieces)) == (True, 1)
    body.sent()
    assert (body.is_whole, body.pieces, books.used) == (False, [], 0)


def test_all_bodies_together_are_bounded() -> None:
    books = KeptBytes(limit=10)
    one, two = KeptBody(books), KeptBody(books)
    one.add(b"12345678", was_sent=True)
    two.add(b"12345678", was_sent=True)
    assert (one.is_whole, two.is_whole, books.used) == (True, False, 8)
