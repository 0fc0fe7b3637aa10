"""hub/edge/connection.py: heads, bodies and endings, over a fake transport."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import cast

import pytest

from hub import errors
from hub.edge import goodbye
from hub.edge.connection import YOUNG_LEAVE_S
from hub.edge.limits import IDLE_S
from hub.edge.state import State
from proto.aio.transport import CLIENT_BUFFER
from tests.hub.edge.fakes import GET, POST, FakeTransport, Wire


async def test_one_request_at_a_time_in_order() -> None:
    wire = Wire()
    wire.feed(GET + GET.replace(b"/api", b"/two"))
    assert len(wire.host.exchanges) == 1
    wire.answer()
    await asyncio.sleep(0)
    assert [exchange.request.target for exchange in wire.host.exchanges] == [
        b"/k8s/clusters/a/api", b"/k8s/clusters/a/two",
    ]  # fmt: skip
    wire.answer()
    assert wire.transport.written == b"answer answer "
    assert wire.host.events == ["opened", "matured"]


async def test_what_is_written_in_one_turn_leaves_in_one_write() -> None:
    wire = Wire()
    exchange = wire.feed(GET)
    for piece in (b"a", b"b", b"c"):
        exchange.front.write(piece)
    assert wire.transport.writes == 0
    await asyncio.sleep(0)
    assert (wire.transport.written, wire.transport.writes) == (b"abc", 1)


async def test_a_body_goes_to_its_exchange_and_the_rest_to_the_next() -> None:
    wire = Wire()
    exchange = wire.feed(POST + b"he")
    assert not exchange.is_complete
    wire.feed(b"llo" + GET)
    assert (exchange.got, exchange.is_complete) == (b"hello", True)
    assert len(wire.host.exchanges) == 1
    wire.answer()
    await asyncio.sleep(0)
    assert len(wire.host.exchanges) == 2


async def test_reading_follows_the_exchange() -> None:
    wire = Wire()
    exchange = wire.feed(POST)
    exchange.front.pause_body()
    assert not wire.transport.is_reading
    exchange.front.resume_body()
    assert wire.transport.is_reading
    wire.feed(b"hello" + b"x" * 50)
    wire.feed(b"y" * 100)
    assert not wire.transport.is_reading


async def test_writing_follows_the_client() -> None:
    wire = Wire()
    exchange = wire.feed(GET)
    wire.connection.pause_writing()
    assert not exchange.front.is_writable
    wire.connection.resume_writing()
    assert exchange.front.is_writable
    assert exchange.drains == 1


@pytest.mark.parametrize(
    "head", [GET, POST.replace(b"Content-Length: 5", b"Connection: upgrade\r\nUpgrade: websocket")]
)
async def test_nothing_that_is_under_way_is_idle(head: bytes) -> None:
    """Watch, followed logs, exec, attach and port-forward may be silent for ever."""
    wire = Wire()
    exchange = wire.feed(head)
    exchange.front.write(b"HTTP/1.1 200 OK\r\n\r\n")
    if head is not GET:
        exchange.front.become_opaque()
    await asyncio.sleep(0)
    for _ in range(3):
        wire.connection.check(wire.connection._loop.time() + 10_000_000)
    assert not wire.transport.is_closed
    assert not wire.transport.is_aborted


async def test_a_client_lets_go_of_an_idle_connection_before_the_hub_does() -> None:
    """Go's do after 90 s. What leaves while the hub closes is lost, and a change is not sent again."""
    wire = Wire()
    wire.feed(GET)
    wire.answer()
    wire.connection.check(wire.connection._loop.time() + 100)
    assert not wire.transport.is_closed
    wire.connection.check(wire.connection._loop.time() + IDLE_S)
    assert wire.transport.is_closed


async def test_a_body_for_a_program_may_come_slowly() -> None:
    wire = Wire()
    exchange = wire.feed(POST + b"a")
    exchange.front.unhurried()
    wire.connection.check(wire.connection._loop.time() + 10_000)
    assert exchange.error is None
    hurried = Wire()
    exchange = hurried.feed(POST + b"a")
    hurried.connection.check(hurried.connection._loop.time() + 10_000)
    assert isinstance(exchange.error, errors.RequestTimeout)


async def test_who_does_not_read_an_answer_gets_no_further_one() -> None:
    """Or one connection could make the hub hold any number of finished answers."""
    wire = Wire()
    wire.feed(GET + GET)
    wire.connection.pause_writing()
    wire.answer()
    await asyncio.sleep(0)
    assert len(wire.host.exchanges) == 1
    wire.connection.data_received(GET)
    assert not wire.transport.is_reading
    wire.connection.check(wire.connection._loop.time() + 10_000)
    assert not wire.transport.is_closed  # slow is not idle
    wire.connection.resume_writing()
    assert wire.transport.is_reading
    await asyncio.sleep(0)
    assert len(wire.host.exchanges) == 2
    wire.answer()
    await asyncio.sleep(0)
    assert len(wire.host.exchanges) == 3


@pytest.mark.parametrize("how", ["drained", "lost"])
async def test_what_waits_for_room_is_told_once(how: str) -> None:
    wire = Wire()
    exchange = wire.feed(GET)
    wire.connection.pause_writing()
    told: list[str] = []
    exchange.front.when_drained(lambda: told.append(how))
    wire.answer()
    assert told == []
    if how == "drained":
        wire.connection.resume_writing()
    wire.connection.connection_lost(None)
    assert told == [how]


async def test_a_connection_whose_answer_leaves_at_the_end_of_the_turn_closes_in_the_next() -> None:
    wire = Wire(is_tls=True)
    wire.feed(GET)
    wire.transport.unsent = 5  # as uvloop has it until then
    wire.connection.write(b"HTTP/1.1 200 OK\r\n\r\n")
    wire.connection.finish(is_reusable=False)
    assert not wire.transport.is_closed
    wire.transport.unsent = 0
    await asyncio.sleep(0)
    assert wire.transport.is_closed


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_closing_connection_lingers_until_its_answer_has_left(is_tls: bool) -> None:
    """P11: over TLS, too, a reader may take as long as it likes for the end of its output."""
    wire = Wire(is_tls=is_tls)
    exchange = wire.feed(GET)
    exchange.front.write(b"long answer")
    wire.transport.unsent = 5
    exchange.front.finish(is_reusable=False)
    for _ in range(3):
        wire.connection.check(wire.connection.deadline)
        assert not wire.transport.is_aborted
        assert not wire.transport.is_closed
    wire.transport.unsent = 0
    wire.connection.check(wire.connection.deadline)
    assert (wire.transport.is_closed, wire.transport.is_aborted) == (is_tls, not is_tls)


@pytest.mark.parametrize("is_tls", [False, True])
async def test_what_the_kernel_has_yet_is_waited_for(is_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """P11: a paused reader's next ping would meet a socket that nobody has, and the reset eat the end of an exec."""
    left = [5]
    monkeypatch.setattr(goodbye, "_unacknowledged", lambda _socket: left[0])
    wire = Wire(is_tls=is_tls)
    wire.feed(GET).front.finish(is_reusable=False)
    for _ in range(3):
        wire.connection.check(wire.connection.deadline)
        assert not wire.transport.is_aborted
    left[0] = 0
    wire.connection.check(wire.connection.deadline)
    assert wire.transport.is_aborted


@pytest.mark.parametrize("is_idle", [False, True])
async def test_over_tls_nobody_is_waited_for_who_says_no_goodbye(is_idle: bool) -> None:
    """Without a token: a stranger would hold a place for each answer that closes, as long as a slow reader may."""
    wire = Wire(is_tls=True)
    if is_idle:
        wire.connection.check(wire.connection.deadline)
    else:
        exchange = wire.feed(GET)
        exchange.front.write(b"no")
        exchange.front.finish(is_reusable=False)
    assert wire.transport.is_closed
    wire.connection.check(wire.connection.deadline - 0.1)
    assert not wire.transport.is_aborted
    wire.connection.check(wire.connection.deadline)
    assert wire.transport.is_aborted


async def test_over_tls_who_has_an_exec_may_send_on_until_it_has_read_the_end() -> None:
    """kubectl pings while `less` pauses; with some kernels and proxies a reset throws away what it has not read."""
    wire = Wire(is_tls=True)
    exchange = wire.feed(GET)
    wire.connection.become_opaque()
    exchange.front.finish(is_reusable=False)
    assert wire.transport.is_closed
    wire.connection.check(1e9)
    assert not wire.transport.is_aborted


async def test_over_tls_a_slow_reader_of_the_end_is_waited_for() -> None:
    """P11: what TLS has written may wait below it, and in the kernel."""
    wire, below = Wire(is_tls=True), FakeTransport()
    wire.connection.below = cast(asyncio.Transport, below)
    wire.feed(GET)
    wire.answer()
    wire.connection.drain()
    assert wire.transport.is_closed
    below.unsent = 5
    for _ in range(3):
        wire.connection.check(wire.connection.deadline)
        assert not wire.transport.is_aborted
    below.unsent = 0
    wire.connection.check(wire.connection.deadline)
    assert wire.transport.is_aborted


async def test_a_refusal_is_answered_once_and_the_rest_thrown_away() -> None:
    wire = Wire()
    wire.connection.data_received(b"GET  / HTTP/1.1\r\n\r\n" + GET)
    wire.connection.data_received(GET)
    assert wire.transport.written.startswith(b"HTTP/1.1 400 ")
    assert b"riata-request-id: id-1\r\n" in wire.transport.written
    assert wire.transport.is_eof
    assert wire.connection.state is State.LINGER
    assert wire.host.exchanges == []
    assert len(wire.host.refusals) == 1
    wire.connection.check(wire.connection.deadline)
    assert wire.transport.is_aborted


async def test_tls_has_no_half_close() -> None:
    wire = Wire(is_tls=True)
    wire.connection.data_received(b"GET  / HTTP/1.1\r\n\r\n")
    assert wire.transport.is_closed
    assert not wire.transport.is_eof


async def test_a_full_read_arrives_whole_though_another_comes_before_it_is_digested() -> None:
    wire, other = Wire(), Wire()
    exchange = wire.feed(POST.replace(b"5", b"%d" % len(CLIENT_BUFFER)))
    CLIENT_BUFFER[:] = sent = random.Random(1).randbytes(len(CLIENT_BUFFER))
    got: list[bytes] = []

    def body(data: bytes) -> None:
        other.connection.get_buffer(-1)[:] = bytes(len(CLIENT_BUFFER))
        got.append(data)

    exchange.body = body  # type: ignore[method-assign]
    wire.connection.buffer_updated(len(sent))
    assert b"".join(got) == sent
    assert max(map(sys.getsizeof, got)) < 256 * 1024  # else the heap would map each anew
    assert exchange.is_complete


async def test_a_full_read_for_another_path_leaves_at_once() -> None:
    wire = Wire()
    head = b"PUT /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 999999\r\n\r\n"
    CLIENT_BUFFER[:] = sent = head + bytes(len(CLIENT_BUFFER) - len(head))
    wire.connection.buffer_updated(len(sent))
    assert wire.host.handed == [sent]


async def test_other_paths_leave_with_every_byte() -> None:
    wire = Wire()
    raw = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + GET
    wire.connection.data_received(raw)
    assert wire.host.handed == [raw]
    assert wire.connection.state is State.CLOSED


async def test_a_lost_connection_ends_its_exchange() -> None:
    wire = Wire()
    exchange = wire.feed(GET)
    wire.connection.connection_lost(None)
    assert exchange.is_gone
    exchange.front.write(b"late")
    exchange.front.finish(is_reusable=True)
    await asyncio.sleep(0)
    assert wire.transport.written == b""
    assert wire.host.events[-1] == "closed"


async def test_opaque_bytes_and_their_end() -> None:
    wire = Wire()
    exchange = wire.feed(
        b"GET /k8s/clusters/a/x HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly"
    )
    assert exchange.got == b""
    exchange.front.become_opaque()
    wire.feed(b" late")
    assert exchange.got == b"early late"
    assert wire.connection.eof_received() is True
    assert exchange.has_eof
    exchange.front.finish(is_reusable=True)
    assert wire.connection.state is State.LINGER


@pytest.mark.parametrize("is_draining", [False, True])
async def test_a_drain_closes_what_is_idle_and_the_rest_behind_its_answer(is_draining: bool) -> None:
    wire = Wire()
    wire.feed(GET)
    wire.host.is_draining = is_draining
    wire.connection.drain()
    assert not wire.transport.is_eof
    wire.answer()
    assert wire.transport.is_eof is is_draining
    idle = Wire()
    idle.feed(GET)
    idle.answer()
    idle.connection.drain()
    assert idle.transport.is_eof


async def test_who_has_asked_nothing_yet_may_still_ask_when_the_hub_goes_away() -> None:
    wire = Wire()
    wire.host.is_leaving = wire.host.is_draining = True
    wire.connection.drain()
    assert not wire.transport.is_eof
    assert wire.connection.deadline <= asyncio.get_running_loop().time() + YOUNG_LEAVE_S
    assert not wire.feed(GET).request.is_keep_alive
    wire.answer()
    assert wire.transport.is_eof


async def test_continue_is_said_once_and_not_to_those_who_did_not_wait() -> None:
    wire = Wire()
    exchange = wire.feed(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    exchange.front.send_continue()
    exchange.front.send_continue()
    assert wire.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    eager = Wire()
    exchange = eager.feed(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") + b"h")
    exchange.front.send_continue()
    assert eager.transport.written == b""


async def test_who_waits_to_be_asked_for_the_body_is_not_slow() -> None:
    """The OPEN of a change may be held for a sign of life: its client was told that it had been too slow."""
    wire = Wire()
    exchange = wire.feed(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    began = wire.connection._loop.time()
    wire.connection.check(began + 60)
    assert exchange.error is None
    exchange.front.send_continue()
    wire.connection.check(began + 69)
    assert exchange.error is None
    wire.connection.check(began + 71)
    assert isinstance(exchange.error, errors.RequestTimeout)


async def test_a_broken_chunk_fails_the_exchange() -> None:
    wire = Wire()
    exchange = wire.feed(POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"2\r\nab\r\n")
    wire.feed(b"zz\r\n")
    assert exchange.got == b"ab"
    assert isinstance(exchange.error, errors.BadRequest)
    assert wire.connection.state is State.LINGER
