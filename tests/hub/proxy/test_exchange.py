"""hub/proxy/exchange.py: one request as a conversation between a client and a stream."""

from __future__ import annotations

import pytest

from hub import errors
from hub.auth.grants import Access
from proto.errors import UNEXECUTED, Code
from proto.messages import Accepted, HttpHead
from tests.hub.proxy.fakes import FakeFront, FakeLink, request
from tests.hub.proxy.test_relay import World


def head(status: int, *fields: tuple[bytes, bytes]) -> HttpHead:
    return HttpHead(status=status, headers=fields)


LENGTH_4 = head(200, (b"content-length", b"4"))
JSON = (b"content-type", b"application/json")


class Talk:
    """One exchange, begun."""

    def __init__(self, raw: str = "GET /k8s/clusters/c1/api HTTP/1.1", *lines: str, links: int = 1) -> None:
        self.links = [FakeLink(f"l{number}") for number in range(links)]
        self.world = World(*self.links)
        self.front, exchange = self.world.begin(request(raw, *lines))
        assert exchange is not None
        self.exchange = exchange
        self.stream = self.links[0].opened[0][2]


POST = "POST /k8s/clusters/c1/api/v1/pods HTTP/1.1"
WATCH = "GET /k8s/clusters/c1/api/v1/pods?watch=1 HTTP/1.1"
EXEC = "GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1"
UPGRADE = ("Connection: Upgrade", "Upgrade: SPDY/3.1")


def body(front: FakeFront) -> bytes:
    return front.written.partition(b"\r\n\r\n")[2]


def test_chunks_for_a_body_of_unknown_length() -> None:
    talk = Talk()
    talk.exchange.head(head(200))
    talk.exchange.data(memoryview(b"hello"))
    talk.exchange.trailers(())
    talk.exchange.end()
    assert body(talk.front) == b"5\r\nhello\r\n0\r\n\r\n"
    assert talk.front.finished is True
    assert talk.stream.credit == 5


def test_trailers_come_behind_the_last_chunk() -> None:
    talk = Talk()
    talk.exchange.head(head(200))
    talk.exchange.data(memoryview(b"hello"))
    talk.exchange.trailers(((b"x-sum", b"1"), (b"set-cookie", b"a=b"), (b"content-length", b"1"), (b"x-sum", b"2")))
    talk.exchange.end()
    assert body(talk.front) == b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n"
    assert talk.front.finished is True


def test_trailers_have_no_place_behind_a_body_of_known_length() -> None:
    talk = Talk()
    talk.exchange.head(head(200, (b"content-length", b"5")))
    talk.exchange.data(memoryview(b"hello"))
    talk.exchange.trailers(((b"x-sum", b"1"),))
    talk.exchange.end()
    assert body(talk.front) == b"hello"


def test_credit_waits_for_the_client() -> None:
    talk = Talk()
    talk.exchange.head(head(200))
    talk.exchange.data(memoryview(b"one"))
    talk.front.is_writable = False
    talk.exchange.data(memoryview(b"three"))
    talk.exchange.data(memoryview(b"two"))
    assert talk.stream.credit == 3
    talk.exchange.drained()
    talk.exchange.drained()
    assert talk.stream.credit == 11


def test_the_body_waits_for_the_cluster() -> None:
    talk = Talk(POST, "Content-Length: 6")
    talk.stream.has_room = False
    talk.exchange.body(b"abc")
    assert talk.front.is_paused
    talk.exchange.writable()
    assert not talk.front.is_paused


def test_continue_comes_with_the_accept() -> None:
    talk = Talk(POST, "Content-Length: 6", "Expect: 100-continue")
    assert talk.front.continued == 0
    talk.exchange.accepted(Accepted())
    assert talk.front.continued == 1


def test_more_and_less_than_announced() -> None:
    for pieces in ([b"12345"], [b"123", b"45"]):
        talk = Talk()
        talk.exchange.head(LENGTH_4)
        for piece in pieces:
            talk.exchange.data(memoryview(piece))
        assert talk.front.is_aborted
        assert talk.stream.code is Code.PROTOCOL
    talk = Talk()
    talk.exchange.head(LENGTH_4)
    talk.exchange.data(memoryview(b"123"))
    talk.exchange.end()
    assert talk.front.is_aborted
    assert talk.front.finished is None


def test_an_answer_before_the_body_was_read_ends_the_connection() -> None:
    talk = Talk(POST, "Content-Length: 6")
    talk.exchange.head(head(403, (b"content-length", b"0")))
    talk.exchange.end()
    assert b"connection: close" in talk.front.written
    assert talk.front.finished is False
    assert talk.stream.code is Code.CANCELLED


def test_who_was_told_that_the_connection_ends_sees_it_end() -> None:
    """RFC 9112 §9.6. A program behind `…/proxy` may answer while it is still asked."""
    talk = Talk("POST /k8s/clusters/c1/api/v1/namespaces/d/pods/p/proxy/echo HTTP/1.1", "Content-Length: 6")
    talk.exchange.head(head(200))
    assert b"connection: close" in talk.front.written
    talk.exchange.body(b"abcdef")
    talk.exchange.body_complete()
    talk.exchange.data(memoryview(b"abcdef"))
    talk.exchange.end()
    assert talk.front.finished is False
    assert (talk.stream.code, talk.stream.is_ended) == (None, True)


def test_a_reset_before_the_head_is_a_status_and_behind_it_a_break() -> None:
    talk = Talk()
    talk.exchange.reset(Code.UPSTREAM, "text of the agent")
    assert talk.front.status == 503
    assert b"text of the agent" not in talk.front.written
    talk = Talk()
    talk.exchange.head(head(200))
    talk.exchange.reset(Code.UPSTREAM, "")
    assert talk.front.is_aborted


def test_an_open_that_never_left_was_not_delivered() -> None:
    """P2, P3: then even a mutation may be repeated, by us or by the client."""
    talk = Talk(POST, links=2)
    talk.stream.was_sent = False
    talk.exchange.reset(Code.SESSION_LOST, "")
    assert len(talk.links[1].opened) == 1
    alone = Talk(POST)
    alone.stream.was_sent = False
    alone.exchange.reset(Code.SESSION_LOST, "")
    assert alone.front.status == 503
    assert b"retry-after: 1" in alone.front.written


@pytest.mark.parametrize("code", [Code.REFUSED, Code.DRAINING, Code.DIAL_REFUSED, Code.KUBE_UNAUTHORIZED])
def test_a_change_that_was_not_taken_goes_elsewhere_with_its_body(code: Code) -> None:
    talk = Talk(POST, "Content-Length: 6", links=2)
    talk.exchange.body(b"abc")
    talk.exchange.accepted(Accepted())
    talk.exchange.reset(code, "")
    (second,) = talk.links[1].opened
    assert (second[0], second[4]) == (talk.links[0].opened[0][0], False)
    talk.exchange.body(b"def")
    talk.exchange.body_complete()
    assert (second[2].sent, second[2].is_ended) == (b"abcdef", True)
    talk.exchange.head(head(201, (b"content-length", b"0")))
    talk.exchange.end()
    assert (talk.front.status, talk.front.finished, talk.world.relay.kept.used) == (201, True, 0)
    assert talk.world.count("reroutes_total", reason="refused" if code in UNEXECUTED else "unreachable") == 1


@pytest.mark.parametrize("code", [Code.SESSION_LOST, Code.CLOSED, Code.UPSTREAM, Code.INTERNAL, Code.IDLE])
def test_a_change_that_may_have_run_is_never_sent_twice(code: Code) -> None:
    talk = Talk(POST, "Content-Length: 3", links=2)
    talk.exchange.body(b"abc")
    talk.exchange.body_complete()
    talk.exchange.reset(code, "")
    assert talk.links[1].opened == []
    assert talk.front.status == 504
    assert b"retry-after" not in talk.front.written
    assert talk.world.relay.kept.used == 0


@pytest.mark.parametrize("code", [Code.REFUSED, Code.DRAINING, Code.DIAL_REFUSED])
def test_the_largest_object_goes_elsewhere_too_without_a_copy(code: Code) -> None:
    piece, count = b"a" * 65_536, 48
    talk = Talk(POST, f"Content-Length: {count * len(piece)}", links=2)
    for _ in range(count):
        talk.exchange.body(piece)
    talk.exchange.body_complete()
    sent: list[bytes] = []
    talk.links[1].on_send = sent.append
    talk.exchange.reset(code, "")
    (second,) = talk.links[1].opened
    assert (second[2].sent, second[2].is_ended) == (piece * count, True)
    assert all(each is piece for each in sent)
    talk.exchange.head(head(201, (b"content-length", b"0")))
    talk.exchange.end()
    assert (talk.front.status, talk.world.relay.kept.used) == (201, 0)


def test_a_longer_body_is_not_kept_and_so_not_sent_twice() -> None:
    talk = Talk(POST, "Content-Length: 5000000", links=2)
    talk.exchange.body(b"a" * 4_300_000)
    talk.exchange.reset(Code.REFUSED, "")
    assert talk.links[1].opened == []
    assert talk.front.status == 429


@pytest.mark.parametrize("size", [1_000, 5_000_000], ids=["kept", "not kept"])
def test_a_body_comes_no_faster_than_it_leaves(size: int) -> None:
    talk = Talk(POST, f"Content-Length: {2 * size}")
    talk.stream.has_room = False
    talk.exchange.body(b"a" * size)
    assert talk.front.is_paused
    talk.exchange.writable()
    assert not talk.front.is_paused
    talk.exchange.body(b"a" * size)
    assert talk.front.is_paused


def test_a_body_that_is_sent_again_stays_paused_until_it_has_left() -> None:
    talk = Talk(POST, "Content-Length: 2000000", links=2)
    talk.stream.has_room = False
    talk.exchange.body(b"a" * 1_000_000)
    talk.links[1].has_room = False
    talk.exchange.reset(Code.REFUSED, "")
    assert (len(talk.links[1].opened), talk.front.is_paused) == (1, True)
    talk.exchange.writable()
    assert not talk.front.is_paused


@pytest.mark.parametrize("code", [Code.SESSION_LOST, Code.CLOSED, Code.UPSTREAM, Code.DIAL_TIMEOUT, Code.OVERLOADED])
@pytest.mark.parametrize("line", ["GET /k8s/clusters/c1/api HTTP/1.1", "HEAD /k8s/clusters/c1/api HTTP/1.1", WATCH])
def test_a_question_is_asked_elsewhere_while_its_answer_has_not_begun(line: str, code: Code) -> None:
    talk = Talk(line, links=2)
    talk.exchange.reset(code, "")
    assert len(talk.links[1].opened) == 1
    talk.exchange.head(head(200))
    talk.exchange.reset(code, "")
    assert talk.exchange.attempts == 2


def test_attempts_are_bounded() -> None:
    """What may bring an agent down does not get to see all of them; what was not taken may go round."""
    for code, asked in ((Code.SESSION_LOST, 3), (Code.REFUSED, 8)):
        talk = Talk(links=12)
        for link in talk.links:
            if link.opened:
                talk.exchange.reset(code, "")
        assert sum(len(link.opened) for link in talk.links) == asked
        assert talk.front.status == (503 if code is Code.SESSION_LOST else 429)


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.REFUSED, Code.TOO_BIG, Code.OVERLOADED])
def test_what_an_agent_refuses_the_hub_has_not_refused(code: Code) -> None:
    """The strict policy of one cluster is no sign that tokens are guessed."""
    talk = Talk()
    talk.exchange.reset(code, "")
    assert talk.front.status in {403, 413, 429}
    assert b"\nriata_hub_refusals_total{" not in talk.world.metrics.render()


def test_administrators_are_told_the_route_and_others_are_not() -> None:
    for is_admin in (True, False):
        talk = Talk(links=2)
        talk.exchange.access = Access("uid-c1", "c1", is_admin, (), ())
        talk.world.routes.nodes.add(talk.links[1])
        talk.exchange.reset(Code.SESSION_LOST, "")
        talk.exchange.head(LENGTH_4)
        line = b"\r\nriata-route: node/l1; reason=fallback-retry; attempts=2\r\n"
        assert (line in talk.front.written) is is_admin
        assert (b"riata-route" in talk.front.written) is is_admin
        failed = Talk()
        failed.exchange.access = Access("uid-c1", "c1", is_admin, (), ())
        failed.exchange.reset(Code.UPSTREAM, "")
        assert (b"\r\nriata-route: cluster/69696969; reason=only\r\n" in failed.front.written) is is_admin


async def test_the_last_bytes_of_a_client_that_closed_its_upgraded_connection_still_leave() -> None:
    """Over TLS the end of the client's half is followed by the connection's: a RESET would overtake what is queued."""
    talk = Talk(EXEC, *UPGRADE)
    talk.exchange.head(head(101))
    talk.exchange.body(b"last")
    talk.exchange.client_eof()
    talk.exchange.gone()
    assert (talk.stream.sent, talk.stream.is_ended, talk.stream.code) == (b"last", True, None)
    assert talk.exchange.has_ended
    vanished = Talk(EXEC, *UPGRADE)
    vanished.exchange.head(head(101))
    vanished.exchange.gone()
    assert vanished.stream.code is Code.CANCELLED


def test_a_lost_session_ends_a_watch_between_two_events_as_apiserver_does() -> None:
    """P11: the client resumes from its last event; in the middle of one it must see a break."""
    for data, is_clean in ((b'{"type":"ADDED"}\n', True), (b"", True), (b'{"type":"ADD', False)):
        talk = Talk(WATCH)
        talk.exchange.head(head(200, JSON))
        if data:
            talk.exchange.data(memoryview(data))
        talk.exchange.reset(Code.SESSION_LOST, "")
        assert talk.front.is_aborted is not is_clean
        assert talk.front.written.endswith(b"0\r\n\r\n") is is_clean
    plain = Talk()
    plain.exchange.head(head(200, JSON))
    plain.exchange.reset(Code.SESSION_LOST, "")
    assert plain.front.is_aborted


def test_a_failure_after_the_head_breaks_the_response() -> None:
    talk = Talk(POST, "Content-Length: 6")
    talk.exchange.head(head(200))
    talk.exchange.body_failed(errors.RequestTimeout())
    assert talk.front.is_aborted
    assert talk.stream.code is Code.CANCELLED


def test_an_upgrade_is_opaque_both_ways() -> None:
    talk = Talk(EXEC, *UPGRADE)
    talk.exchange.head(head(101))
    assert talk.front.is_opaque
    talk.exchange.body(b"in")
    talk.exchange.data(memoryview(b"out"))
    assert talk.stream.sent == b"in"
    assert body(talk.front) == b"out"
    talk.exchange.end()
    assert talk.stream.is_ended
    assert talk.front.finished is False


def test_a_lost_upgrade_is_broken() -> None:
    talk = Talk(EXEC, *UPGRADE)
    talk.exchange.head(head(101))
    talk.exchange.reset(Code.SESSION_LOST, "")
    assert talk.front.is_aborted


def test_a_refused_upgrade_ends_the_connection() -> None:
    talk = Talk(EXEC, *UPGRADE)
    talk.exchange.head(head(403, (b"content-length", b"2")))
    talk.exchange.data(memoryview(b"no"))
    talk.exchange.end()
    assert talk.front.status == 403
    assert talk.front.finished is False
    assert (talk.stream.code, talk.stream.is_ended) == (None, True)


async def test_a_drain_waits_for_the_end_of_an_event_and_leaves_others_alone() -> None:
    watch = Talk(WATCH)
    watch.exchange.head(head(200, JSON))
    watch.exchange.data(memoryview(b'{"a"'))
    watch.exchange.cut_soon()
    assert watch.front.finished is None
    watch.exchange.data(memoryview(b":1}\n"))
    assert watch.front.written.endswith(b"0\r\n\r\n")
    assert watch.front.finished is True
    plain = Talk()
    plain.exchange.head(head(200))
    plain.exchange.cut_soon()
    assert plain.front.finished is None
    assert not plain.front.is_aborted


def test_a_client_that_left_is_told_to_the_cluster_once() -> None:
    talk = Talk()
    talk.exchange.gone()
    assert talk.stream.code is Code.CANCELLED
    talk.exchange.gone()
    talk.exchange.head(head(200))
    talk.exchange.data(memoryview(b"late"))
    talk.exchange.end()
    assert talk.front.written == b""
    assert talk.world.relay.live == 0
