"""hub/proxy/held.py: an answer that is not whole yet waits, so that another agent may give it."""

from __future__ import annotations

import pytest

from hub.proxy.held import HELD_BYTES_MAX, HELD_S, SLOW_S
from hub.proxy.replay import PIECE_BYTES, UNREACHED
from proto.aio.owner import StreamOwner
from proto.errors import Code
from proto.messages import HttpHead
from tests.hub.proxy.fakes import FakeLink, FakeStream, request
from tests.hub.proxy.test_exchange import POST, WATCH, body
from tests.hub.proxy.test_relay import World

LIST = "GET /k8s/clusters/c1/api/v1/pods HTTP/1.1"
HEAD = HttpHead(status=200, headers=((b"content-type", b"application/json"),))


class Talk:
    """A request whose answer comes in parts, from the first of two agents."""

    def __init__(self, raw: str = LIST) -> None:
        self.links = [FakeLink("l0"), FakeLink("l1")]
        self.world = World(*self.links)
        self.front, exchange = self.world.begin(request(raw))
        assert exchange is not None
        self.exchange = exchange
        self.stream.peer_ended = False

    @property
    def stream(self) -> FakeStream:
        """The stream that the request has now."""
        return [link for link in self.links if link.opened][-1].opened[-1][2]

    @property
    def owner(self) -> StreamOwner:
        """Whom the link calls."""
        assert self.stream.owner is not None
        return self.stream.owner

    @property
    def held(self) -> int:
        return len(self.world.relay.holding)

    def begin(self, *parts: bytes) -> None:
        self.owner.head(HEAD)
        for part in parts:
            self.owner.data(memoryview(part))

    def later(self, seconds: float, *, is_heard: bool = True) -> None:
        """`is_heard`: all agents send something meanwhile."""
        self.world.now += seconds
        for link in self.links:
            link.last_received_at = self.world.now if is_heard else link.last_received_at
        self.world.relay._silence.look()
        self.world.relay.holding.look()


def test_parts_wait_for_the_end_and_are_one_answer() -> None:
    talk = Talk()
    talk.begin(b"one", b"more")
    assert (talk.front.written, talk.held, talk.stream.credit) == (b"", 1, 0)
    talk.owner.end()
    assert body(talk.front) == b"3\r\none\r\n4\r\nmore\r\n0\r\n\r\n"
    assert talk.front.finished is True
    assert (talk.held, talk.stream.credit) == (0, 7)


def test_an_agent_that_dies_behind_a_part_costs_the_reader_nothing() -> None:
    talk = Talk()
    talk.begin(b"half of it")
    talk.owner.reset(Code.SESSION_LOST, "gone")
    assert talk.held == 0
    assert len(talk.links[1].opened) == 1
    talk.begin(b"all of it")
    talk.owner.end()
    assert body(talk.front) == b"9\r\nall of it\r\n0\r\n\r\n"


@pytest.mark.parametrize("code", [Code.SESSION_LOST, *sorted(UNREACHED)])
def test_of_a_change_whose_answer_was_cut_the_outcome_is_unknown(code: Code) -> None:
    """Also where the agent says that it never sent the request: the head tells otherwise."""
    talk = Talk(POST)
    talk.begin(b"half of it")
    talk.owner.reset(code, "gone")
    assert talk.front.status == 504
    assert b"outcome unknown" in talk.front.written
    assert talk.links[1].opened == []


def test_a_body_goes_on_behind_an_early_answer() -> None:
    talk = Talk(POST)
    talk.stream.has_room = False
    talk.exchange.body(b"more")
    assert talk.front.is_paused
    talk.begin(b"no")
    talk.owner.writable()
    assert not talk.front.is_paused


def test_what_was_held_of_a_route_that_was_left_is_never_seen() -> None:
    talk = Talk()
    talk.begin(b"half of it")
    talk.exchange.move()
    talk.later(HELD_S)
    assert (talk.front.written, talk.held) == (b"", 0)
    talk.begin(b"all of it")
    talk.later(HELD_S)
    assert body(talk.front) == b"9\r\nall of it\r\n"


def test_an_answer_whose_end_takes_its_time_is_passed_on() -> None:
    talk = Talk()
    talk.begin(b"slow")
    talk.later(HELD_S / 2)
    assert talk.front.written == b""
    talk.later(HELD_S)
    assert body(talk.front) == b"4\r\nslow\r\n"
    assert talk.owner is talk.exchange
    talk.owner.data(memoryview(b"er"))
    talk.owner.end()
    assert body(talk.front) == b"4\r\nslow\r\n2\r\ner\r\n0\r\n\r\n"


def test_an_answer_of_a_session_that_falls_silent_is_asked_elsewhere() -> None:
    talk = Talk()
    first = talk.links[0]
    talk.begin(b"half")
    talk.later(HELD_S / 2)
    talk.owner.data(memoryview(b" of it"))  # the last that is heard
    for _ in range(4):
        talk.later(0.1, is_heard=False)
    assert (talk.front.written, talk.held, first.probes) == (b"", 1, 1)
    first.unanswered_ping_at = talk.world.now
    talk.later(0.61, is_heard=False)
    assert first.opened[0][2].code is Code.CANCELLED
    talk.begin(b"all of it")
    talk.owner.end()
    assert body(talk.front) == b"9\r\nall of it\r\n0\r\n\r\n"
    talk.later(HELD_S)
    assert talk.held == 0


def test_what_others_hear_right_behind_a_part_proves_nothing() -> None:
    """An event of a watch before the network fell silent; or another worker's word of when it heard the agent, which is
    as late as that took."""
    talk = Talk()
    talk.begin(b"half of it")
    talk.later(0.005)
    talk.later(2 * HELD_S, is_heard=False)
    assert (talk.front.written, talk.held) == (b"", 1)
    talk.later(0.01)
    assert talk.held == 0


def test_an_answer_that_trickles_is_passed_on() -> None:
    talk = Talk()
    talk.begin()
    for _ in range(6):
        assert talk.front.written == b""
        talk.later(HELD_S * 0.9)  # nothing was heard for longer behind the last of it
        talk.owner.data(memoryview(b"."))
    assert body(talk.front) == b"1\r\n.\r\n" * 6
    assert talk.world.now - 1000.0 < SLOW_S + HELD_S


def test_all_of_what_is_promised_is_held_in_whatever_frames_it_comes() -> None:
    talk = Talk()
    talk.begin(*[b"x" * 16_384] * 4)
    assert talk.held == 1
    talk.begin(b"x")
    assert talk.held == 0


def test_of_an_answer_in_tiny_pieces_no_more_is_held() -> None:
    talk = Talk()
    talk.begin(*[b"."] * (HELD_BYTES_MAX // PIECE_BYTES))
    assert talk.held == 1
    talk.begin(b".")
    assert talk.held == 0


def test_a_sign_of_life_lets_a_slow_answer_go() -> None:
    talk = Talk()
    talk.begin(b"slow")
    talk.later(0.45, is_heard=False)
    assert (talk.front.written, talk.links[0].probes) == (b"", 1)
    talk.later(0.1)  # the pong
    assert body(talk.front) == b"4\r\nslow\r\n"
    assert talk.links[1].opened == []


def test_of_a_change_whose_session_falls_silent_behind_the_head_the_outcome_is_unknown() -> None:
    talk = Talk(POST)
    talk.begin(b"half of it")
    for _ in range(60):
        talk.later(0.1, is_heard=False)
    assert talk.front.written == b""
    talk.owner.reset(Code.SESSION_LOST, "gone")
    assert talk.front.status == 504
    assert talk.links[1].opened == []


@pytest.mark.parametrize(("window", "most"), [(1 << 20, HELD_BYTES_MAX), (16_384, 8_192)])
def test_a_long_answer_is_passed_on_before_its_credit_is_used_up(window: int, most: int) -> None:
    talk = Talk()
    talk.stream.window = window
    talk.begin(b"x" * most)
    assert talk.front.written == b""
    talk.owner.data(memoryview(b"y"))
    assert body(talk.front).endswith(b"1\r\ny\r\n")
    assert (talk.held, talk.stream.credit) == (0, most + 1)


def test_trailers_come_behind_what_was_held() -> None:
    talk = Talk()
    talk.begin(b"body")
    talk.owner.trailers(((b"x-sum", b"1"),))
    talk.owner.end()
    assert body(talk.front) == b"4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"


def test_a_client_that_leaves_takes_what_was_held_along() -> None:
    talk = Talk()
    talk.begin(b"body")
    talk.exchange.gone()
    assert talk.stream.code is Code.CANCELLED
    talk.later(HELD_S)
    assert (talk.front.written, talk.held) == (b"", 0)


@pytest.mark.parametrize(
    "raw",
    [
        WATCH,
        "GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/log?follow=true HTTP/1.1",
        "GET /k8s/clusters/c1/api/v1/namespaces/d/services/s/proxy/events HTTP/1.1",
        "POST /k8s/clusters/c1/api/v1/namespaces/d/services/s/proxy/events HTTP/1.1",
    ],
)
def test_streams_never_wait(raw: str) -> None:
    talk = Talk(raw)
    talk.begin(b"now")
    assert body(talk.front) == b"3\r\nnow\r\n"
    assert talk.held == 0


def test_an_answer_that_is_whole_already_is_not_held() -> None:
    talk = Talk()
    talk.stream.peer_ended = True
    talk.owner.head(HEAD)
    assert talk.front.status == 200
    assert talk.held == 0
