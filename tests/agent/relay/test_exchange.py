"""Exchanges: what the hub's stream says, what the API server's connection says, and what becomes of both."""

import pytest

from agent.errors import TokenUnavailable
from agent.relay.pool import ANY_IDLE, MUTATION_IDLE_MAX
from proto.errors import Code
from tests.agent.relay.stream import Conversation, FakePool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_get_from_end_to_end():
    talk = Conversation(headers=((b"accept", b"application/json"), (b"x-unknown", b"1")))
    assert talk.pool.asked == []
    talk.exchange.end()
    assert talk.pool.asked == [ANY_IDLE]
    assert talk.written == (
        b"GET /api/v1/pods HTTP/1.1\r\nhost: kube.test:6443\r\naccept: application/json\r\n"
        b"impersonate-user: riata:alice\r\nimpersonate-group: riata:dev\r\nauthorization: Bearer t0\r\n\r\n"
    )
    talk.answer(b"HTTP/1.1 200 OK\r\nAudit-Id: 1\r\nContent-Length: 2\r\n\r\nok")
    assert talk.stream.log == [("head", 200, False), "end"]
    assert talk.stream.headers == ((b"audit-id", b"1"), (b"content-length", b"2"))
    assert talk.stream.body == b"ok"
    assert talk.pool.idle == [talk.connection]
    assert talk.counts.active == 0
    assert talk.counts.by_status[2] == 1


async def test_a_watch_is_passed_on_event_by_event():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert talk.stream.log == [("head", 200, False)]
    for event in (b"one\n", b"two\n"):
        talk.answer(b"4\r\n%b\r\n" % event)
        assert talk.stream.body.endswith(event)
    talk.answer(b"0\r\n\r\n")
    assert talk.stream.log == [("head", 200, False), "end"]


async def test_a_mutation_is_accepted_at_once_and_its_body_follows_with_credit():
    talk = Conversation("POST", headers=((b"content-length", b"6"),), ready=0)
    assert talk.stream.log == ["accept"]
    assert talk.pool.asked == [MUTATION_IDLE_MAX]
    talk.data(b"abc")
    assert talk.stream.credit == 0
    talk.exchange.on_connection(talk.pool.connect())
    assert talk.written.endswith(b"\r\n\r\nabc")
    assert talk.stream.credit == 3
    talk.data(b"def")
    talk.exchange.end()
    assert talk.written.endswith(b"abcdef")
    assert talk.stream.credit == 6
    talk.answer(OK)
    assert talk.stream.log == ["accept", ("head", 200, False), "end"]
    assert talk.pool.idle == [talk.connection]


async def test_a_body_of_unknown_length_goes_in_chunks():
    talk = Conversation("PUT")
    assert talk.pool.asked == []
    talk.data(b"abc")
    talk.data(b"0123456789abcdef")
    talk.exchange.end()
    head, _, body = talk.written.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    talk.answer(OK)
    assert talk.pool.idle


async def test_a_chunked_body_that_waited_for_its_connection_is_whole():
    talk = Conversation("POST", ready=0)
    talk.data(b"abc")
    talk.data(b"def")
    talk.exchange.end()
    talk.exchange.on_connection(talk.pool.connect())
    assert talk.written.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
    assert talk.stream.credit == 6


@pytest.mark.parametrize(("method", "says_zero"), [("POST", True), ("PATCH", True), ("DELETE", False), ("GET", False)])
async def test_requests_without_a_body(method, says_zero):
    talk = Conversation(method)
    talk.exchange.end()
    assert (b"content-length: 0\r\n" in talk.written) is says_zero
    assert ("accept" in talk.stream.log) is (method != "GET")


async def test_request_credit_waits_for_a_full_transport():
    talk = Conversation("POST", headers=((b"content-length", b"9"),))
    talk.connection.pause_writing()
    talk.data(b"abc")
    talk.data(b"def")
    assert talk.stream.credit == 0
    talk.connection.resume_writing()
    assert talk.stream.credit == 6
    talk.data(b"ghi")
    assert talk.stream.credit == 9


async def test_a_full_stream_pauses_the_connection():
    talk = Conversation(room=3)
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcde")
    assert not talk.transport.is_reading_now
    talk.exchange.writable()
    assert talk.transport.is_reading_now
    talk.answer(b"fghij")
    assert talk.stream.body == b"abcdefghij"
    assert talk.pool.idle
    assert talk.transport.is_reading_now


@pytest.mark.parametrize(("sent", "text"), [(b"abc", "shorter"), (b"abcdefg", "longer")])
async def test_a_body_that_is_not_as_long_as_announced_never_reaches_its_end(sent, text):
    talk = Conversation("POST", headers=((b"content-length", b"6"),))
    talk.data(sent)
    talk.exchange.end()
    assert talk.stream.log == ["accept", ("reset", "PROTOCOL")]
    assert text in talk.stream.text
    assert talk.transport.state == "aborted"
    assert talk.counts.active == 0


async def test_the_hubs_reset_aborts_the_connection_at_once():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    talk.exchange.reset(Code.CANCELLED, "")
    assert talk.transport.state == "aborted"
    assert talk.counts.active == 0
    assert talk.stream.log == [("head", 200, False)]


async def test_the_hubs_reset_ends_the_waiting_for_a_connection():
    talk = Conversation(ready=0)
    talk.exchange.end()
    talk.exchange.reset(Code.SESSION_LOST, "")
    assert talk.pool.waiters == []
    assert talk.counts.active == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_a_body_that_is_cut_short_is_a_reset_and_never_an_end(answer, exc):
    talk = Conversation()
    talk.exchange.end()
    talk.answer(answer)
    talk.lose(exc)
    assert talk.stream.log == [("head", 200, False), ("reset", "UPSTREAM")]
    assert talk.pool.lost == [talk.connection]


async def test_nonsense_from_the_api_server_is_a_reset():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"SSH-2.0-OpenSSH_9\r\n\r\n")
    assert talk.stream.log == [("reset", "UPSTREAM")]
    assert talk.transport.state == "aborted"


async def reused(method, headers=()):
    """A conversation on a connection that has already served one."""
    pool = FakePool()
    first = Conversation(pool=pool)
    first.exchange.end()
    first.answer(OK)
    talk = Conversation(method, headers=headers, pool=pool, ready=0)
    return talk


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_safe_request_on_a_stale_connection_is_repeated_on_a_fresh_one_once(method):
    talk = await reused(method)
    talk.exchange.end()
    talk.lose(ConnectionResetError())
    assert talk.pool.asked[-1] == 0.0
    assert talk.counts.repeats_stale == 1
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert talk.written.startswith(method.encode())
    talk.lose()
    assert talk.stream.log[-1] == ("reset", "UPSTREAM")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_mutation_is_never_repeated_blindly(method):
    talk = await reused(method)
    talk.exchange.end()
    talk.lose()
    assert talk.stream.log == ["accept", ("reset", "UPSTREAM")]
    assert len(talk.pool.made) == 1
    assert talk.pool.waiters == []


async def test_an_upgrade_is_never_repeated_though_it_is_a_get():
    """WebSocket exec is a GET that runs a command."""
    pool = FakePool()
    first = Conversation(pool=pool)
    first.exchange.end()
    first.answer(OK)
    talk = Conversation("GET", upgrade="websocket", pool=pool, ready=0)
    talk.exchange.begin()
    assert talk.pool.asked[-1] == MUTATION_IDLE_MAX
    talk.lose()
    assert talk.stream.log[-1] == ("reset", "UPSTREAM")
    assert len(talk.pool.made) == 1
    assert talk.pool.waiters == []


async def test_a_safe_request_that_was_partly_answered_is_not_repeated():
    talk = await reused("GET")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 2")
    talk.lose()
    assert talk.stream.log == [("reset", "UPSTREAM")]


async def test_a_fresh_connection_that_closes_is_no_stale_one():
    talk = Conversation()
    talk.exchange.end()
    talk.lose()
    assert talk.stream.log == [("reset", "UPSTREAM")]


async def test_no_connection():
    talk = Conversation(ready=0)
    talk.exchange.end()
    talk.pool.waiters.pop().on_no_connection(Code.DIAL_REFUSED, "the API server refused the connection")
    assert talk.stream.log == [("reset", "DIAL_REFUSED")]
    assert talk.counts.by_code[Code.DIAL_REFUSED] == 1


async def test_without_a_token_nothing_is_sent():
    talk = Conversation(ready=0)

    def fail(now):
        raise TokenUnavailable("no token")

    talk.credential.authorization = fail
    talk.exchange.end()
    talk.exchange.on_connection(talk.pool.connect())
    assert talk.written == b""
    assert talk.stream.log == [("reset", "KUBE_UNAUTHORIZED")]


async def test_an_answer_before_the_body_was_read_ends_the_connection_and_swallows_the_rest():
    talk = Conversation("POST", headers=((b"content-length", b"6"),))
    talk.data(b"abc")
    talk.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert talk.stream.log == ["accept", ("head", 413, True)]
    assert talk.transport.state == "aborted"
    assert talk.pool.idle == []
    talk.data(b"def")
    talk.exchange.end()
    assert talk.stream.credit == 6


async def test_redirects_are_passed_on():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n")
    assert talk.stream.log == [("head", 302, True)]
    assert (b"location", b"https://evil.test/") in talk.stream.headers
    assert len(talk.pool.made) == 1


async def test_a_head_request_has_no_body():
    talk = Conversation("HEAD")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    assert talk.stream.log == [("head", 200, True)]
    assert talk.pool.idle == [talk.connection]
