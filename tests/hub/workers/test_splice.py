"""hub/workers/splice.py: one stream carried on over another."""

from __future__ import annotations

from typing import cast

import pytest

from hub.workers.splice import Half, splice
from proto import errors as wire
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.errors import Code
from proto.messages import Accepted, HttpHead, StreamClass, StreamKind
from tests.hub.workers.fakes import GET, POST, FakeLink, FakeStream


class Rig:
    """`near`: towards the other worker; `far`: towards the agent."""

    def __init__(self, *, is_bodiless: bool = False, refuses: Exception | None = None) -> None:
        self.link = FakeLink()
        self.link.refuses = refuses
        self.near = FakeStream(is_bodiless=is_bodiless)
        self.lost: list[int] = []
        message = GET if is_bodiless else POST
        link, near = cast(Link, self.link), cast(LinkStream, self.near)
        self.half = splice(near, StreamKind.HTTP, StreamClass.NORMAL, message, link, self.lost)

    @property
    def far(self) -> FakeStream:
        return self.link.made[0]

    @property
    def near_half(self) -> Half:
        assert self.half is not None
        return self.half

    @property
    def far_half(self) -> Half:
        assert isinstance(self.far.owner, Half)
        return self.far.owner


def test_a_request_and_its_answer_pass() -> None:
    rig = Rig()
    assert rig.link.opened == [(POST, False)]
    rig.near_half.data(memoryview(b"body"))
    rig.near_half.end()
    assert rig.far.told == [b"body", "end"]
    assert rig.near.credit == 4
    rig.far_half.accepted(Accepted())
    rig.far_half.head(HttpHead(status=200, headers=()))
    rig.far_half.data(memoryview(b"answer"))
    rig.far_half.trailers(((b"a", b"b"),))
    rig.far_half.end()
    assert rig.near.told == ["accept", 200, b"answer", ((b"a", b"b"),), "end"]
    assert rig.far.credit == 6


def test_the_agent_gets_no_more_credit_than_the_hop_gave() -> None:
    """It makes blocks of half of that, which whoever asked must be able to take whole."""
    near = FakeStream()
    near.window = 30_000
    link = FakeLink()
    splice(cast(LinkStream, near), StreamKind.HTTP, StreamClass.NORMAL, POST, cast(Link, link), [])
    assert link.made[0].window == 30_000


def test_a_request_without_a_body_is_opened_as_one() -> None:
    assert Rig(is_bodiless=True).link.opened == [(GET, True)]


def test_credit_returns_when_the_other_side_has_room_again() -> None:
    rig = Rig()
    rig.near.has_room = False
    rig.far_half.data(memoryview(b"12345"))
    rig.far_half.data(memoryview(b"678"))
    assert rig.far.credit == 0
    rig.near_half.writable()
    assert rig.far.credit == 8
    rig.near_half.writable()
    assert rig.far.credit == 8
    rig.far.has_room = False
    rig.near_half.data(memoryview(b"12"))
    assert rig.near.credit == 0
    rig.far_half.writable()
    assert rig.near.credit == 2


@pytest.mark.parametrize("code", [Code.REFUSED, Code.DRAINING, Code.FORBIDDEN, Code.UPSTREAM])
def test_the_agents_word_passes_as_it_is(code: Code) -> None:
    rig = Rig()
    rig.far_half.reset(code, "no")
    assert (rig.near.told, rig.lost) == ([code], [])
    rig.near_half.data(memoryview(b"late"))  # on its way when the reset left
    rig.near_half.end()
    rig.near_half.writable()
    assert rig.far.told == []
    assert rig.near.credit == 4


def test_a_lost_session_is_told_by_the_hops_own_end() -> None:
    rig = Rig()
    rig.far_half.reset(Code.SESSION_LOST, "gone")
    assert rig.near.told == []  # a RESET could not say that a change may have been executed
    assert rig.lost == [rig.near.id]


def test_a_whole_answer_is_not_lost_with_the_session_that_waits_for_more_of_the_question() -> None:
    rig = Rig()
    rig.far_half.head(HttpHead(status=413, headers=()))
    rig.far_half.end()
    rig.far_half.reset(Code.SESSION_LOST, "gone")
    assert (rig.near.told, rig.lost) == ([413, "end"], [])
    rig.near_half.data(memoryview(b"more"))
    assert rig.near.credit == 4


@pytest.mark.parametrize(("code", "told"), [(Code.CANCELLED, Code.CANCELLED), (Code.SESSION_LOST, Code.CANCELLED)])
def test_a_client_that_leaves_ends_the_agents_stream(code: Code, told: Code) -> None:
    rig = Rig()
    rig.near_half.reset(code, "client gone")
    assert rig.far.told == [told]
    rig.far_half.data(memoryview(b"late"))
    assert rig.far.credit == 4


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (wire.SessionDraining("x"), Code.REFUSED),
        (wire.SessionLost("x"), Code.REFUSED),
        (wire.TooManyStreams("x"), Code.REFUSED),
        (wire.MessageTooBig("x"), Code.TOO_BIG),
    ],
)
def test_what_the_tunnel_does_not_take_was_not_executed(raised: Exception, code: Code) -> None:
    rig = Rig(refuses=raised)
    assert rig.half is None
    assert rig.near.told == [code]


@pytest.mark.parametrize(("unanswered_s", "is_taken"), [(4.9, True), (5.0, False)])
def test_a_tunnel_with_an_old_unanswered_ping_takes_nothing_over_a_hop_either(
    unanswered_s: float, is_taken: bool
) -> None:
    """P7: the other worker does not know of the ping."""
    link, near = FakeLink(), FakeStream()
    link.unanswered_ping_at = link.clock() - unanswered_s
    half = splice(cast(LinkStream, near), StreamKind.HTTP, StreamClass.NORMAL, POST, cast(Link, link), [])
    assert (half is not None, len(link.opened)) == (is_taken, int(is_taken))
    assert near.told == ([] if is_taken else [Code.REFUSED])
