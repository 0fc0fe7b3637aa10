"""One TLS connection to the kube-apiserver: an asyncio protocol that carries one exchange at a time.

Everything happens in callbacks of the event loop; a plain request costs no task and no future (design D13). All
connections read into one buffer, whose bytes are taken before the callback returns: without it each connection would
allocate a quarter of a megabyte for every read.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import Any, Final, Protocol, cast

from agent.relay import resumption
from agent.relay.response import BadResponse, ResponseReader, ResponseSink, State
from agent.relay.tcpinfo import on_the_way
from proto.aio.busypoll import Leg, never
from proto.aio.gone import GONE
from proto.aio.transport import reset_on_close
from proto.errors import Code

logger = logging.getLogger(__name__)

WRITE_BUFFER_HIGH: Final = 64 * 1024
"""Bytes waiting in the transport before a request body's credit is held back."""
READ_BUFFER_BYTES: Final = 320 * 1024
"""Bytes taken off a connection at once: more than the TLS layer can hold (256 KiB from one read of the socket and a
record that is decrypted). What did not fit would wait for the next turn of the loop, and when the socket's end arrives
in this one, uvloop throws it away: the last bytes of a fast exec were lost so."""
UNDECODED_HIGH: Final = 32 * 1024
"""Bytes that may wait undecrypted. With the 16 KiB of a record that is decrypted but not yet taken they must fit into
the read buffer: when the socket ends, the TLS layer delivers what fits and forgets the rest."""
SOCKET_RECEIVE_BYTES: Final = 64 * 1024
"""Kernel buffer for a connection; Linux takes twice as much. What one read of the socket takes, the TLS layer holds
twice, and a stream that cannot send it once. The API server is near: more would not be faster, only fuller (ADR 23)."""

LOOKED_AT_S: Final = 1.0
"""How often a connection is looked at."""
UNACKNOWLEDGED_S: Final = 4.5
"""For how long an API server may acknowledge nothing of what was sent to it: the way to it is gone then, and whoever
waits hears of it, five to six seconds after it was sent. Not by TCP_USER_TIMEOUT: Linux also ends a connection by it
whose reader has closed the window (an upload to a pod that takes its time), and a quiet one that has lost a single
keepalive probe (net/ipv4/tcp_timer.c: `tcp_probe_timer`, `tcp_keepalive_timer`)."""

_OPTIONS: Final = [
    (int(level), int(getattr(socket, name)), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.SOL_SOCKET, "SO_RCVBUF", SOCKET_RECEIVE_BYTES),
    )
    if hasattr(socket, name)
]
"""Where the platform has them; TCP_NODELAY is the loop's."""
_buffer: Final = memoryview(bytearray(READ_BUFFER_BYTES))


class ConnectionUser(ResponseSink, Protocol):
    """The exchange that a connection works for."""

    @property
    def is_request_complete(self) -> bool:
        """Whether the whole request was written; if not, the connection cannot be used again."""

    def on_complete(self) -> None:
        """The response is complete; the connection belongs to the pool again."""

    def on_failure(self, code: Code, text: str, *, got_bytes: bool, is_way_gone: bool) -> None:
        """The connection is lost. `got_bytes`: a byte of this response had arrived. `is_way_gone`: that need not be the
        API server's doing: it was kept for too long, or nobody hears what is sent over it."""

    def on_writable(self) -> None:
        """The transport took what was written: credit may be returned."""


class ConnectionOwner(Protocol):
    """The pool."""

    def on_idle(self, connection: "KubeConnection") -> None:
        """The connection is free and in good order."""

    def on_lost(self, connection: "KubeConnection") -> None:
        """The connection is gone. Called once."""


class KubeConnection(asyncio.BufferedProtocol):
    """Owned by the pool, lent to one exchange after the other."""

    __slots__ = (
        "_acknowledged",
        "_acknowledged_at",
        "_has_written",
        "_is_answered",
        "_is_asking",
        "_is_end_announced",
        "_is_paused",
        "_leg",
        "_owner",
        "_reader",
        "_transport",
        "_user",
        "context",
        "idle_since",
        "is_writable",
        "served",
    )

    def __init__(self, owner: ConnectionOwner, leg: Leg | None = None) -> None:
        self._owner = owner
        self._leg = leg or never()
        self._is_asking = False
        """It has written since it last read: events of a watch are no answers."""
        self._is_answered = False
        """The API server has sent something over it."""
        self._reader = ResponseReader()
        self._transport: asyncio.Transport
        self._user: ConnectionUser | None = None
        self._is_end_announced = False
        self._is_paused = False
        self._has_written = False
        self._acknowledged = -1
        """What the kernel has said since then."""
        self._acknowledged_at = 0.0
        self.is_writable = True
        self.context: ssl.SSLContext | None = None
        """What the API server was verified by."""
        self.served = 0
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a request may be written."""
        return not self._transport.is_closing()

    # What the exchange calls.

    def begin(self, user: ConnectionUser, request: bytes, *, head_only: bool, upgrade: str) -> None:
        """Write a request head (and perhaps all of its body) for `user` and read the response for it."""
        self._user = user
        self._reader.start(user, head_only=head_only, upgrade=upgrade)
        self.write(request)

    def write(self, data: bytes) -> None:
        """More of the request, or opaque bytes behind a 101."""
        self._has_written = True
        self._transport.write(data)
        self._is_asking = True
        self._leg.sent(len(data))

    def pause_reading(self) -> None:
        """The hub's stream is full."""
        self._is_paused = True
        _limit_tls_buffer(self._transport, 1)
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The hub's stream has room."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
            # Not before the TLS layer has delivered, which the line above has only scheduled: the wider limit reads
            # the socket at once, and its end would throw away what is held.
            asyncio.get_running_loop().call_soon(self._widen)

    def close(self) -> None:
        """End after what was written is flushed; the user hears nothing more."""
        self._user = None
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection now: the API server sees its client gone. The user hears nothing more.

        What is still on the way goes too: a change that was given up is not executed when the way is back. Behind a 101
        it may arrive: the program there has begun.
        """
        if self._user is not None and self._reader.state is not State.OPAQUE:
            reset_on_close(self._transport)
        self._user = None
        self._transport.abort()

    def look(self, now: float) -> None:
        """Once in LOOKED_AT_S: end it when what was written is on its way for too long."""
        if not self._has_written:
            return
        written = on_the_way(self._transport.get_extra_info("socket"))
        if written is None or written.is_nothing:
            self._has_written, self._acknowledged = False, -1
        elif written.waits_for_room or written.acknowledged != self._acknowledged:
            self._acknowledged, self._acknowledged_at = written.acknowledged, now
        elif min(now - self._acknowledged_at, written.silent_ms / 1000) >= UNACKNOWLEDGED_S:
            text = "the API server acknowledges nothing: the way to it is gone"
            self._fail(text, got_bytes=self._reader.got_bytes, is_way_gone=True)

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH)
        _limit_tls_buffer(self._transport, UNDECODED_HIGH)
        _tune(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_asking:
            self._is_asking = False
            self._leg.arrived(nbytes)
            if not self._is_answered:
                self._is_answered = True
                resumption.keep(self._transport.get_extra_info("ssl_object"))
        user = self._user
        data = bytes(_buffer[:nbytes])
        reader = self._reader
        try:
            reader.feed(data)
        except BadResponse as exc:
            self._fail(str(exc))
        except Exception:
            # A bug of ours must not leave a stream hanging: the stream ends, the session lives.
            logger.exception("response processing failed")
            self._fail("the agent failed while it processed the response")
        else:
            if user is not None and self._user is user and reader.state is State.EXPECT_NOTHING:
                self._complete(user)

    def eof_received(self) -> None:
        """The API server closes (over TLS: its close_notify came): so does the transport by our returning None."""
        self._is_end_announced = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.on_lost(self)
        user, self._user = self._user, None
        if user is not None:
            self._tell_end(user, exc)
        self._transport = GONE
        self._reader.release()

    def _tell_end(self, user: ConnectionUser, exc: Exception | None) -> None:
        reader = self._reader
        try:
            # Without the announcement, a response that only the connection's end ends may be cut short: uvloop and
            # asyncio report a bare TCP FIN below TLS as an end without error. Behind a 101 the two sides' own framing
            # tells; a RESET would throw away what the client has not read yet, and API servers skip the close_notify
            # when they close while they write (crypto/tls Conn.Close).
            if not self._is_end_announced and (exc is not None or reader.state is not State.OPAQUE):
                raise BadResponse("the connection to the API server broke")
            reader.feed_eof()
        except BadResponse as broken:
            user.on_failure(Code.UPSTREAM, str(broken), got_bytes=reader.got_bytes, is_way_gone=self.served > 0)
        else:
            user.on_complete()

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._user is not None:
            self._user.on_writable()

    def _widen(self) -> None:
        if not self._is_paused:
            _limit_tls_buffer(self._transport, UNDECODED_HIGH)

    def _complete(self, user: ConnectionUser) -> None:
        """Runs after the reader returned, so that the next exchange never sees bytes of this response."""
        self._user = None
        reusable = self._reader.keep_alive and user.is_request_complete and self.is_open
        user.on_complete()
        self.served += 1
        if reusable:
            self.resume_reading()
            self._owner.on_idle(self)
        else:
            self._transport.abort()

    def _fail(self, text: str, *, got_bytes: bool = True, is_way_gone: bool = False) -> None:
        user, self._user = self._user, None
        reset_on_close(self._transport)  # as in `abort`
        self._transport.abort()
        if user is not None:
            user.on_failure(Code.UPSTREAM, text, got_bytes=got_bytes, is_way_gone=is_way_gone)
        else:
            logger.warning("idle connection to the API server closed", extra={"reason": text})


def _tune(sock: Any) -> None:
    """Notice a dead API server, also behind a load balancer that forgot the connection; bound the kernel's buffer.

    By one real socket: what uvloop shows makes one for each option that it is asked to set.
    """
    with contextlib.suppress(OSError, ValueError):  # it is closed already
        real = socket.socket(fileno=-1 if sock is None else sock.fileno())
        try:
            for level, option, value in _OPTIONS:
                real.setsockopt(level, option, value)
        finally:
            real.detach()


def _limit_tls_buffer(transport: asyncio.Transport, high: int) -> None:
    """How many undecrypted bytes the TLS layer takes before it stops the socket.

    While reading is paused it must take none: uvloop throws away what it holds when the socket ends meanwhile, which
    loses the last bytes of an exec whose client is slow.
    """
    limit = getattr(transport, "set_read_buffer_limits", None)  # not on plain TCP, which keeps bytes in the kernel
    if limit is not None:
        limit(high=high, low=high // 4)
