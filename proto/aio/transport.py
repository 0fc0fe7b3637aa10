"""What a link needs of a WebSocket, a pair of transports in memory, and the socket options of the tunnel.

The real one is `proto/aio/websocket.py`; its opening handshakes are in `hub/tunnel/wsserver.py` and
`agent/uplink/wsclient.py`.
"""

import asyncio
import collections
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from proto.aio.inbox import Receiver

NOTSENT_LOWAT_BYTES: Final = 128 * 1024
"""Unsent bytes in the kernel at which the socket stops being writable. Without it a keystroke waits behind megabytes
that the kernel has already taken: 560 ms instead of 100 on an 8 MB/s link (facts/tunnels.md §6.5)."""
USER_TIMEOUT_MS: Final = 20_000
"""Unacknowledged bytes for this long end the TCP connection. Pings notice earlier; this is for the rest of a batch."""
KEEPALIVE_S: Final = (11, 3, 3)
"""Idle seconds, interval seconds and count of TCP keepalive probes, for the time when nothing is sent: longer than
between two pings. Linux goes by USER_TIMEOUT_MS instead of the count (net/ipv4/tcp_timer.c, `tcp_keepalive_timer`): all
of them must fit into it, or a single lost one ends a quiet tunnel."""
WRITE_BUFFER_BYTES: Final = 64 * 1024
"""High-water mark of the asyncio transport: one batch."""

READ_BUFFER_BYTES: Final = (256 + 16) * 1024
"""What TLS may have of one read of the socket and a record that was begun before. What does not fit waits for the next
turn, and uvloop throws it away when the connection's end comes in this one."""
READ_PIECE_BYTES: Final = 252 * 1024
"""Digested at a time: a copy of 256 KiB would be mapped anew for each (`proto.aio.loop`)."""
TUNNEL_BUFFER: Final = memoryview(bytearray(READ_BUFFER_BYTES))
"""For what is read at a time from any tunnel: who reads into it digests it before the loop goes on."""
CLIENT_BUFFER: Final = memoryview(bytearray(READ_BUFFER_BYTES))
"""The same from any client, copied at once. Not the tunnels' one: what a tunnel brings may close a paused client, and
asyncio's TLS then reads what it has of that one before `close` returns."""

_CLOSE: Final = None
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Transport(Protocol):
    """One WebSocket, or its stand-in: whole binary messages both ways.

    A handshake awaits `send` and `receive`; then `bind` gives what arrives to a receiver, and `write` is all there is.
    """

    @property
    def peer(self) -> str:
        """Address of the far end, for logs."""
        ...

    @property
    def is_writable(self) -> bool:
        """False while the socket's buffer is full: write no more until the receiver hears `transport_writable`."""
        ...

    async def send(self, message: bytes) -> None:
        """Write one message of the handshake. Raise ConnectionError."""
        ...

    async def receive(self) -> bytes:
        """Return the next message, before `bind`. Raise EOFError at an orderly end, ConnectionError otherwise.

        Ends with one of these when the connection goes away or `abort` is called. Safe to cancel.
        """
        ...

    def bind(self, receiver: Receiver) -> None:
        """Give everything that arrives to `receiver`, for good. The messages may be larger from now on."""
        ...

    def write(self, message: bytes) -> None:
        """Write one binary message now. Nothing once the connection ends: the receiver hears of that."""
        ...

    def abort(self) -> None:
        """Drop the connection now. May be repeated."""
        ...

    def reset(self) -> None:
        """The same where the peer seems dead: what the kernel still has for it goes too. If only our way from it is
        dead, it hears the reset at once instead of an end behind bytes that wait for acknowledgements."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close in order with a WebSocket close code. The link bounds the time it takes and aborts then."""
        ...


def address_text(address: object) -> str:
    """`host:port` or `[host]:port` for logs and for URLs."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0])
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return "unknown"


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Make the coming abort a TCP reset: a plain FIN waits behind what the kernel has not sent, and looks like an end
    to everything that is not framed."""
    set_option_below(transport, socket.SOL_SOCKET, "SO_LINGER", _NO_LINGER)


def set_option_below(transport: asyncio.BaseTransport, level: int, name: str, value: int | bytes) -> None:
    """Set an option on the TCP socket that a transport shows, or nothing where there is none (any more), or no such
    option."""
    with contextlib.suppress(OSError, ValueError):  # it is closed; what uvloop shows of it raises the second
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, name):
            sock.setsockopt(level, getattr(socket, name), value)


def tune(sock: Any, *, transport: asyncio.WriteTransport | None = None) -> None:
    """Set the tunnel's options on the real TCP socket, also the one below TLS (`get_extra_info("socket")`).

    Options that the platform or the kind of socket does not have are left out: they make a link faster or notice
    death earlier, none makes it correct. With `transport` its write buffer is bounded too.
    """
    if transport is not None:
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
    if sock is None or getattr(sock, "family", None) not in {socket.AF_INET, socket.AF_INET6}:
        return
    idle, interval, count = KEEPALIVE_S
    _set(sock, socket.IPPROTO_TCP, "TCP_NODELAY", 1)
    _set(sock, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", NOTSENT_LOWAT_BYTES)
    _set(sock, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", USER_TIMEOUT_MS)
    _set(sock, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPIDLE", idle)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPINTVL", interval)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPCNT", count)


def _set(sock: Any, level: int, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(level, option, value)


class _Direction:
    """Messages on their way from one end of a pipe to the other, bounded in bytes."""

    __slots__ = ("is_closed", "is_lost", "messages", "on_change", "queued", "waiting")

    def __init__(self) -> None:
        self.messages: collections.deque[bytes | None] = collections.deque()
        self.queued = 0
        self.is_closed = False
        self.is_lost = False
        self.on_change: list[Callable[[], None]] = []
        self.waiting: set[asyncio.Future[None]] = set()

    def take(self) -> bytes | None:
        """The next message; None is the orderly end, which stays."""
        message = self.messages[0]
        if message is not _CLOSE:
            self.messages.popleft()
            self.queued -= len(message)
        self.changed()
        return message

    def changed(self) -> None:
        """Something has come or gone: tell whoever is bound to one of the ends or waits."""
        for call in self.on_change:
            call()
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for a condition on this direction, or for its loss."""
        while not (is_true() or self.is_lost):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.add(waiter)
            try:
                await waiter
            finally:
                self.waiting.discard(waiter)


class PipeEnd:
    """One end of `pipe()`: a Transport in memory."""

    __slots__ = ("_in", "_is_due", "_limit", "_out", "_receiver", "_was_full", "close_code", "peer")

    def __init__(self, incoming: _Direction, outgoing: _Direction, limit: int, peer: str) -> None:
        self._in = incoming
        self._out = outgoing
        self._limit = limit
        self._receiver: Receiver | None = None
        self._was_full = False
        self._is_due = False
        self.peer = peer
        self.close_code: int | None = None
        """What `close` was called with, for tests."""

    @property
    def is_writable(self) -> bool:
        return self._out.queued <= self._limit

    def write(self, message: bytes) -> None:
        out = self._out
        if out.is_lost or out.is_closed:
            return
        out.messages.append(message)
        out.queued += len(message)
        self._was_full = self._was_full or not self.is_writable
        out.changed()

    async def send(self, message: bytes) -> None:
        """Also waits while the pipe is full."""
        if self._out.is_lost or self._out.is_closed:
            raise ConnectionResetError("pipe closed")
        self.write(message)
        await self._out.until(lambda: self.is_writable)
        if self._out.is_lost:
            raise ConnectionResetError("pipe closed")

    async def receive(self) -> bytes:
        incoming = self._in
        await incoming.until(lambda: bool(incoming.messages))
        if incoming.is_lost:
            raise ConnectionResetError("pipe aborted")
        message = incoming.take()
        if message is _CLOSE:
            raise EOFError
        return message

    def bind(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._in.on_change.append(self._soon)
        self._out.on_change.append(self._soon)
        self._soon()

    def abort(self) -> None:
        for direction in (self._in, self._out):
            direction.is_lost = True
            direction.messages.clear()
            direction.queued = 0
            direction.changed()

    def reset(self) -> None:
        self.abort()

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye in both directions and wait until the peer has read it, as a WebSocket's close handshake does."""
        self.close_code = code
        for direction in (self._in, self._out):
            if not direction.is_closed:
                direction.is_closed = True
                direction.messages.append(_CLOSE)
                direction.changed()
        await self._out.until(lambda: len(self._out.messages) <= 1)

    def _soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """Bring the receiver what has come, and the news that there is room."""
        self._is_due = False
        incoming, receiver = self._in, self._receiver
        if receiver is not None and self._was_full and self.is_writable:
            self._was_full = False
            receiver.transport_writable()
        while receiver is not None and (incoming.messages or incoming.is_lost):
            message = None if incoming.is_lost else incoming.take()
            if message is _CLOSE:
                self._receiver = None
                is_lost = incoming.is_lost
                receiver.transport_lost(ConnectionResetError("pipe aborted") if is_lost else EOFError())
                return
            receiver.message_received(message)


def pipe(limit: int = 256 * 1024) -> tuple[PipeEnd, PipeEnd]:
    """Return two transports that talk to each other, each direction holding about `limit` bytes until it is full."""
    one, two = _Direction(), _Direction()
    return PipeEnd(one, two, limit, "pipe:a"), PipeEnd(two, one, limit, "pipe:b")
