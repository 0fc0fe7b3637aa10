"""Upgrades: the matrix of facts/security.md §2.D at the agent."""

import asyncio

import pytest

from agent.relay.upgrade import CLOSE_DELAY
from proto.errors import Code
from tests.agent.relay.stream import Conversation

EXEC = b"/api/v1/namespaces/n/pods/p/exec?command=sh"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
WEBSOCKET = SWITCH % b"websocket"


def upgrade(token="websocket", method="GET", **more):
    return Conversation(method, EXEC, upgrade=token, **more)


@pytest.mark.parametrize(("token", "method"), [("websocket", "GET"), ("SPDY/3.1", "POST"), ("SPDY/3.1", "GET")])
async def test_the_request_goes_out_at_once(token, method):
    talk = upgrade(token, method)
    head = talk.written
    assert head.startswith(method.encode() + b" " + EXEC)
    assert b"connection: Upgrade\r\nupgrade: " + token.encode() in head
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length" not in head
    assert talk.stream.log == (["accept"] if method == "POST" else [])


async def test_bytes_flow_both_ways_behind_the_101():
    talk = upgrade()
    talk.answer(WEBSOCKET + b"early")
    assert talk.stream.log == [("head", 101, False)]
    assert talk.stream.body == b"early"
    sent = len(talk.written)
    talk.data(b"keys")
    assert talk.written[sent:] == b"keys"
    assert talk.stream.credit == 4
    talk.answer(b"HTTP/1.1 200 OK\r\n\r\n")
    assert talk.stream.body == b"earlyHTTP/1.1 200 OK\r\n\r\n"
    assert talk.counts.upgrades == 1


async def test_client_bytes_wait_for_the_101():
    talk = upgrade()
    sent = len(talk.written)
    talk.data(b"GET /api/v1/secrets HTTP/1.1\r\n\r\n")
    assert talk.written[sent:] == b""
    assert talk.stream.credit == 0
    talk.answer(WEBSOCKET)
    assert talk.written[sent:] == b"GET /api/v1/secrets HTTP/1.1\r\n\r\n"
    assert talk.stream.credit == 32


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 426, 500])
async def test_after_any_other_answer_no_client_byte_leaves_and_the_connection_is_gone(status):
    talk = upgrade()
    sent = len(talk.written)
    talk.data(b"GET /secrets HTTP/1.1\r\n\r\n")
    talk.answer(b"HTTP/1.1 %d No\r\nContent-Length: 4\r\n\r\nnope" % status)
    talk.data(b"GET /secrets HTTP/1.1\r\n\r\n")
    assert talk.stream.log == [("head", status, False), "end"]
    assert talk.written[sent:] == b""
    assert talk.transport.state == "aborted"
    assert talk.pool.idle == []
    assert talk.stream.credit == 2 * len(b"GET /secrets HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
async def test_bodiless_refusals_end_the_connection_too(status):
    talk = upgrade()
    talk.answer(b"HTTP/1.1 %d No\r\n\r\n" % status)
    assert talk.stream.log == [("head", status, True)]
    assert talk.transport.state == "aborted"


async def test_a_late_101_still_switches():
    talk = upgrade()
    for piece in (WEBSOCKET[:10], WEBSOCKET[10:-1]):
        talk.answer(piece)
    assert talk.stream.log == []
    talk.answer(WEBSOCKET[-1:])
    assert talk.stream.log == [("head", 101, False)]


async def test_another_protocol_than_asked_for():
    talk = upgrade("SPDY/3.1")
    talk.answer(WEBSOCKET)
    assert talk.stream.log == [("reset", "UPSTREAM")]


async def test_a_second_101_is_only_bytes():
    talk = upgrade()
    talk.answer(WEBSOCKET + WEBSOCKET)
    assert talk.stream.log == [("head", 101, False)]
    assert talk.stream.body == WEBSOCKET


async def test_the_api_server_closes():
    talk = upgrade()
    talk.answer(WEBSOCKET + b"bye")
    talk.lose()
    assert talk.stream.log == [("head", 101, False), "end"]
    assert talk.counts.upgrades == talk.counts.active == 0
    talk.data(b"late")
    assert talk.stream.credit == 4


@pytest.mark.parametrize(("exc", "last"), [(ConnectionResetError(), ("reset", "UPSTREAM")), (None, "end")])
async def test_a_broken_connection_is_no_end_but_an_unannounced_one_is(exc, last):
    talk = upgrade()
    talk.answer(WEBSOCKET)
    talk.lose(exc, announced=False)
    assert talk.stream.log == [("head", 101, False), last]
    assert talk.counts.upgrades == talk.counts.active == 0


async def test_the_client_closes():
    talk = upgrade()
    talk.answer(WEBSOCKET)
    talk.exchange.end()
    assert talk.transport.state == "open"
    talk.answer(b"last words")
    assert talk.stream.body == b"last words"
    talk.exchange._close()  # what the timer does after CLOSE_DELAY
    assert talk.transport.state == "closed"
    assert talk.stream.log == [("head", 101, False), "end"]
    assert talk.counts.upgrades == talk.counts.active == 0
    assert 0 < CLOSE_DELAY < 1


async def test_both_close_and_the_timer_is_gone():
    talk = upgrade()
    talk.answer(WEBSOCKET)
    talk.exchange.end()
    timer = talk.exchange._closing
    talk.lose()
    assert timer.cancelled()
    assert talk.stream.log == [("head", 101, False), "end"]
    await asyncio.sleep(0)


async def test_the_client_leaves_before_the_switch():
    talk = upgrade()
    talk.exchange.end()
    assert talk.stream.log == [("reset", "CANCELLED")]
    assert talk.transport.state == "aborted"


async def test_the_hub_resets():
    talk = upgrade()
    talk.answer(WEBSOCKET)
    talk.exchange.reset(Code.CANCELLED, "")
    assert talk.transport.state == "aborted"
    assert talk.counts.upgrades == talk.counts.active == 0


async def test_a_full_stream_pauses_the_connection():
    talk = upgrade(room=3)
    talk.answer(WEBSOCKET + b"12345")
    assert not talk.transport.is_reading_now
    talk.exchange.writable()
    assert talk.transport.is_reading_now


async def test_a_401_is_repeated_with_a_fresh_token():
    talk = upgrade()
    body = b'{"kind":"Status","reason":"Unauthorized"}'
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert talk.stream.log == []
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert b"Bearer t1" in talk.written
    talk.answer(WEBSOCKET)
    assert talk.stream.log == [("head", 101, False)]
