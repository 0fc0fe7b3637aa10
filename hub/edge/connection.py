"""One client connection: heads in, exchanges begun one at a time, response bytes out.

Pipelined requests wait unread behind the one that is answered, until its answer has left. After a refusal or an upgrade
the connection never serves another request (CVE-2018-1002105): whatever the client sent behind it dies with the
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from hub import errors
from hub.edge import frugality, response
from hub.edge.application import Application, Exchange
from hub.edge.chunked import ChunkedDecoder
from hub.edge.framing import CHUNKED, Known, Request, read_again, read_request, remember
from hub.edge.goodbye import has_left
from hub.edge.head import check_partial, parse_head
from hub.edge.limits import HEAD_BYTES_MAX, LEADING_CRLF_BYTES_MAX, EdgeLimits
from hub.edge.pace import BodyPace
from hub.edge.state import State
from hub.edge.unsent import Unsent
from proto.aio.transport import CLIENT_BUFFER, READ_PIECE_BYTES, reset_on_close

logger = logging.getLogger(__name__)

RELAY_PREFIX = b"/k8s/"
YOUNG_LEAVE_S: Final = 1.0
"""What a connection without a request gets to make one while the hub goes away."""


class Host(Protocol):
    """What a connection needs from the server that accepted it."""

    limits: EdgeLimits
    application: Application
    host_names: frozenset[bytes] | None
    is_leaving: bool
    """Answers end their connection."""
    is_draining: bool

    def opened(self, connection: EdgeConnection) -> None: ...

    def matured(self, connection: EdgeConnection) -> None:
        """Its first whole request head has arrived."""

    def closed(self, connection: EdgeConnection) -> None: ...

    def hand_over(
        self,
        connection: EdgeConnection,
        transport: asyncio.Transport,
        request: Request,
        received: bytes,
        head_bytes: int,
    ) -> None:
        """A request that is not for the relay: the connection with what was read from it, for good."""


class EdgeConnection(asyncio.BufferedProtocol):
    """Implements `hub.edge.application.Front`."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop, peer: str, *, is_tls: bool) -> None:
        self.peer = peer
        self.state = State.HEAD
        self.is_young = True
        self.is_writable = True
        self.below: asyncio.WriteTransport | None = None
        """What TLS writes to, where it shows it: a buffer of its own."""
        self.deadline = loop.time() + host.limits.head_timeout_s
        self._host = host
        self._loop = loop
        self._is_tls = is_tls
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._scanned = self._skipped = self._body_left = 0
        self._is_reading = True
        self.request: Request | None = None  # that is answered
        self._known: Known | None = None
        self._exchange: Exchange | None = None
        self._decoder: ChunkedDecoder | None = None
        self._pace: BodyPace | None = None
        self._out = Unsent()
        self._is_flush_due = self._is_continue_due = self._is_close_due = self._was_opaque = False
        self._when_drained: Callable[[], None] | None = None

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._host.limits.write_high_bytes)
        self._host.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return CLIENT_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes <= READ_PIECE_BYTES or self.state is State.HEAD:  # all at once: it may be handed over
            self.data_received(bytes(CLIENT_BUFFER[:nbytes]))
            return
        taken = CLIENT_BUFFER[:nbytes]
        for data in [bytes(taken[at : at + READ_PIECE_BYTES]) for at in range(0, nbytes, READ_PIECE_BYTES)]:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is State.HEAD:
            self._buffer += data
            self._read_head()
        elif state is State.OPAQUE:
            if self._exchange is not None:
                self._exchange.body(data)
        elif state is State.BODY:
            self._feed_body(data)
        elif state is State.ANSWER:
            self._buffer += data
            if len(self._buffer) > self._host.limits.pipelined_bytes_max:
                self._pause_reading()

    def eof_received(self) -> bool:
        if self._out and self._transport is not None:  # it closes behind what it has, and asks for no more
            self._transport.write(self._out.take_all())
        if self.state is State.OPAQUE and self._exchange is not None:
            self._exchange.client_eof()
            return not self._is_tls
        return False

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self.flush()
        if not self.is_writable:
            return
        self._tell_drained()
        if self._is_close_due:
            self._close()
        elif self._exchange is not None:
            self._exchange.drained()
        elif self.state is State.HEAD:
            self._await_next()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self.state = State.CLOSED
        self._transport = None
        self._out.clear()
        self._buffer.clear()
        self._known = None
        if exchange is not None:
            exchange.gone()
        self._tell_drained()
        self._host.closed(self)

    # -- request head

    def _read_head(self) -> None:
        if not self.is_writable:
            self._pause_reading()  # who does not read the last answer gets no further one: `_await_next` goes on
            return
        buffer = self._buffer
        if buffer and buffer[0] in b"\r\n":
            self._skip_blank_lines()
        end = buffer.find(b"\r\n\r\n", max(self._scanned - 3, 0))
        try:
            if end < 0 or end + 4 > HEAD_BYTES_MAX:
                self._wait_for_head(end)
                return
            request = self._understand(bytes(buffer[: end + 4]))
        except errors.HubError as error:
            self._refuse(error)
            return
        if self.is_young:
            self._host.matured(self)
        if not request.target.startswith(RELAY_PREFIX):
            self._leave(request, end + 4)
            return
        del buffer[: end + 4]
        self._scanned = self._skipped = 0
        self._begin(request)

    def _understand(self, raw: bytes) -> Request:
        """Raises HubError."""
        now = time.monotonic()
        request = None if self._known is None else read_again(raw, self._known, now)
        if request is None:
            request = read_request(parse_head(raw), now, self.peer, self._host.host_names)
            self._known = remember(raw, request)
        return request

    def _skip_blank_lines(self) -> None:
        skip = len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))
        self._skipped += skip
        if self._skipped > LEADING_CRLF_BYTES_MAX:
            self._refuse(errors.BadRequest("empty lines in front of the request"))
            return
        if bytes(self._buffer[:skip]).replace(b"\r\n", b""):
            return  # a lone CR or LF stays and fails the grammar
        del self._buffer[:skip]

    def _wait_for_head(self, end: int) -> None:
        buffer = self._buffer
        if len(buffer) > HEAD_BYTES_MAX or end >= 0:
            raise errors.HeadTooLarge(f"the request head is larger than {HEAD_BYTES_MAX} bytes")
        if not buffer:
            return
        check_partial(bytes(buffer), self._scanned)
        if self._scanned == 0 and not self.is_young:
            self.deadline = self._loop.time() + self._host.limits.head_timeout_s
        self._scanned = len(buffer)

    def _leave(self, request: Request, head_bytes: int) -> None:
        self.be_frugal(False)  # who takes over would not
        transport, self._transport = self._transport, None
        if transport is None:
            return
        received = bytes(self._buffer)
        self._known = None
        self.state = State.CLOSED
        self._buffer.clear()
        self._host.hand_over(self, transport, request, received, head_bytes)

    def _begin(self, request: Request) -> None:
        if self._host.is_leaving:
            request.is_keep_alive = False
        self.request = request
        self.deadline = math.inf
        if request.length:
            self.state = State.BODY
            self._body_left = request.length
            self._decoder = ChunkedDecoder() if request.length == CHUNKED else None
            self._pace = BodyPace(self._host.limits, self._loop.time())
            self._is_continue_due = request.expects_continue
        else:
            self.state = State.ANSWER
        exchange = self._host.application.begin(self, request)
        if exchange is None or self.state is State.CLOSED:
            return
        self._exchange = exchange
        if self.state is State.BODY and self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._feed_body(data)

    # -- request body

    def _feed_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self._buffer += data
            return
        if self._pace is not None:
            self._pace.received(len(data))
        self._is_continue_due = False
        if self._decoder is not None:
            self._feed_chunks(exchange, self._decoder, data)
            return
        piece, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(piece)
        exchange.body(piece)
        if not self._body_left:
            self._complete_body(exchange, rest)

    def _feed_chunks(self, exchange: Exchange, decoder: ChunkedDecoder, data: bytes) -> None:
        try:
            body, rest = decoder.feed(data)
        except errors.BadRequest as error:
            exchange.body_failed(error)
            return
        if body:
            exchange.body(body)
        if decoder.is_done:
            self._complete_body(exchange, rest)

    def _complete_body(self, exchange: Exchange, rest: bytes) -> None:
        if self.state is not State.BODY:
            return
        self.state = State.ANSWER
        self._pace = self._decoder = None
        self._buffer += rest
        self._resume_reading()
        exchange.body_complete()

    # -- Front, for the exchange

    def write(self, data: bytes | memoryview) -> None:
        self._out.append(data)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._is_flush_due = False
        out, transport = self._out, self._transport
        if transport is None:
            return
        while out and self.is_writable:
            if out.is_frugal and out.is_read:
                self._change_frugality(False)  # now that the transport is not full: it calls nobody back
            piece = out.take()
            transport.write(piece if self._is_tls else bytes(piece))  # TLS keeps nothing of it
        if out:
            out.own()

    def be_frugal(self, is_short: bool) -> None:
        self._out.begin()
        if is_short is not self._out.is_frugal:
            self._change_frugality(is_short)

    def _change_frugality(self, is_frugal: bool) -> None:
        self._out.is_frugal = is_frugal
        if self._transport is not None:
            frugality.change(self._transport, self.below, high=self._host.limits.write_high_bytes, is_frugal=is_frugal)

    def send_continue(self) -> None:
        if self._is_continue_due and self._transport is not None:
            self._is_continue_due = False
            self._transport.write(response.CONTINUE)

    def pause_body(self) -> None:
        if self.state in (State.BODY, State.OPAQUE):
            self._pause_reading()

    def resume_body(self) -> None:
        if self.state in (State.BODY, State.OPAQUE):
            self._resume_reading()

    def become_opaque(self) -> None:
        self.state, self._was_opaque = State.OPAQUE, True
        self.flush()
        self._resume_reading()
        if self._buffer and self._exchange is not None:
            early = bytes(self._buffer)
            self._buffer.clear()
            self._exchange.body(early)

    def finish(self, *, is_reusable: bool) -> None:
        self.flush()
        request, self.request, self._exchange = self.request, None, None
        if self.state is State.CLOSED or request is None:
            return
        is_read = self.state is State.ANSWER
        if not (is_reusable and is_read and request.is_keep_alive) or self._host.is_draining:
            self._close()
            return
        self.state = State.HEAD
        if self.is_writable:
            self._await_next()
        else:
            self.deadline = math.inf  # a slow reader is not an idle one (P11)

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size() + len(self._out)

    def unhurried(self) -> None:
        self._pace = None

    def when_drained(self, call: Callable[[], None]) -> None:
        self._when_drained = call

    def abort(self) -> None:
        self._exchange = None
        self._out.clear()
        self.shut()

    # -- for the server

    @property
    def is_paused(self) -> bool:
        """Nothing is read from the client, so its end would go unseen."""
        return not self._is_reading and self._transport is not None

    def fileno(self) -> int:
        """The descriptor, -1 when the connection is gone."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return -1 if sock is None else sock.fileno()

    def check(self, now: float) -> None:
        """Act on deadlines that have passed; called by the server's sweep."""
        if self._pace is not None and self.state is State.BODY:
            if self._pace.is_too_slow(now, is_due=not self._is_continue_due) and self._exchange is not None:
                self._exchange.body_failed(errors.RequestTimeout())
        elif now < self.deadline:
            return
        elif self.state is State.HEAD and self._buffer:
            self._refuse(errors.RequestTimeout("the request head did not arrive in time"))
        elif self._transport is not None:
            self._end(self._transport, now)

    def drain(self) -> None:
        """Close if idle; a connection with a request under way closes behind the response. One that has asked nothing
        yet is about to: what it sends now would meet a closed door, and a change must not be sent again."""
        if self.state is not State.HEAD or self._buffer:
            return
        if self.is_young:
            self.deadline = min(self.deadline, self._loop.time() + YOUNG_LEAVE_S)
        else:
            self._close()

    def shut(self) -> None:
        """End now, whatever is under way."""
        self.state = State.LINGER
        if self._transport is not None:
            reset_on_close(self._transport)
            self._transport.abort()

    # -- internals

    def _await_next(self) -> None:
        """The last answer has left as far as the socket's buffer goes: the next request may come, or is there."""
        self.deadline = self._loop.time() + self._host.limits.idle_timeout_s
        self._resume_reading()
        if self._buffer:
            self._loop.call_soon(self._next)

    def _tell_drained(self) -> None:
        call, self._when_drained = self._when_drained, None
        if call is not None:
            call()

    def _next(self) -> None:
        if self.state is State.HEAD and self._buffer:
            self._scanned = 0
            self._read_head()

    def _refuse(self, error: errors.HubError) -> None:
        """Answer for the edge itself and close. The head was not understood, so nothing behind it can be."""
        if self.state is not State.HEAD:
            return
        request_id = self._host.application.refused(self.peer, error, None)
        self.write(response.error_response(error, request_id=request_id, is_head=False, close=True))
        self.flush()
        self._close()

    def _close(self) -> None:
        """Close once everything is written. Input under way is read for a while: a reset would eat the answer."""
        transport = self._transport
        self.state = State.LINGER
        self._buffer.clear()
        self._pace = self._decoder = None
        if transport is None:
            return
        self._is_close_due = bool(self._out)
        if self._is_close_due:  # `resume_writing` goes on
            self.deadline = self._loop.time() + self._host.limits.linger_s
        elif self._is_tls or not transport.can_write_eof():
            if self.unsent_bytes:
                # Not yet: what close() has not written after a while is thrown away, and its reader may be `less`.
                self.deadline = self._loop.time() + self._host.limits.linger_s
                self._loop.call_soon(self._close_if_sent)  # uvloop writes at the end of a turn
            else:
                self._part(transport)
        else:
            with contextlib.suppress(OSError):  # reset by the client this very moment: `connection_lost` follows
                transport.write_eof()
            self._resume_reading()
            self.deadline = self._loop.time() + self._host.limits.linger_s

    def _close_if_sent(self) -> None:
        if self._transport is not None and not self.unsent_bytes:
            self._part(self._transport)

    def _part(self, transport: asyncio.Transport) -> None:
        """Close. Over TLS the peer gets a while to say so too; who has an exec, all it needs: it may send on then."""
        self.state = State.LINGER
        self.deadline = math.inf if self._was_opaque else self._loop.time() + self._host.limits.linger_s
        transport.close()

    def _end(self, transport: asyncio.Transport, now: float) -> None:
        """Who is idle, or lingers, has had its time."""
        is_lingering, has_said_end = self.state is State.LINGER, transport.is_closing() or not self._is_tls
        if is_lingering and (self.unsent_bytes or (has_said_end and not has_left(transport, self.below))):
            self.deadline = now + self._host.limits.linger_s  # the answer is still leaving
        elif is_lingering and has_said_end:
            self.deadline = math.inf
            transport.abort()
        else:
            self._part(transport)

    def _pause_reading(self) -> None:
        if self._is_reading and self._transport is not None:
            self._is_reading = False
            if self._pace is not None:
                self._pace.paused(self._loop.time())
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading and self._transport is not None:
            self._is_reading = True
            if self._pace is not None:
                self._pace.resumed(self._loop.time())
            self._transport.resume_reading()
