"""What a link needs of a WebSocket, a pair of transports in memory, and the socket options of the tunnel.

Adapters live with their libraries: `hub/tunnel/wsserver.py` (aiohttp), `agent/uplink/wsclient.py` (websockets).
"""

import asyncio
import collections
import contextlib
import socket
from typing import Any, Final, Protocol

NOTSENT_LOWAT_BYTES: Final = 128 * 1024
"""Unsent bytes in the kernel at which the socket stops being writable. Without it a keystroke waits behind megabytes
that the kernel has already taken: 560 ms instead of 100 on an 8 MB/s link (facts/tunnels.md §6.5)."""
SLOW_NOTSENT_LOWAT_BYTES: Final = 16 * 1024
"""The same for a transport that was measured to be slow (Limits.slow_bytes_per_s): 128 KiB would be 0.1 s at 1 MB/s."""
USER_TIMEOUT_MS: Final = 20_000
"""Unacknowledged bytes for this long end the TCP connection. Pings notice earlier; this is for the rest of a batch."""
KEEPALIVE_S: Final = (15, 5, 3)
"""Idle seconds, interval seconds and count of TCP keepalive probes, for the time when nothing is sent."""
WRITE_BUFFER_BYTES: Final = 64 * 1024
"""High-water mark of the asyncio transport: one batch."""

_CLOSE: Final = None


class Transport(Protocol):
    """One WebSocket, or its stand-in: whole binary messages both ways."""

    @property
    def peer(self) -> str:
        """Address of the far end, for logs."""
        ...

    async def send(self, message: bytes) -> None:
        """Write one binary message; return when the socket's buffer has room again. Raise ConnectionError."""
        ...

    async def receive(self) -> bytes:
        """Return the next binary message. Raise EOFError at an orderly end, ConnectionError otherwise.

        Must end with one of these when the connection goes away or `abort` is called. Safe to cancel.
        """
        ...

    def abort(self) -> None:
        """Drop the connection now. May be repeated."""
        ...

    def limit_unsent(self, size: int) -> None:
        """Let the kernel hold about `size` bytes that have not left, at most. Nothing where there is no kernel."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close in order with a WebSocket close code. The link bounds the time it takes and aborts then."""
        ...


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


def limit_unsent(sock: Any, size: int) -> None:
    """Change the bound on unsent bytes of the tunnel's TCP socket."""
    if sock is not None and getattr(sock, "family", None) in {socket.AF_INET, socket.AF_INET6}:
        _set(sock, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", size)


def _set(sock: Any, level: int, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(level, option, value)


class _Direction:
    """Messages on their way from one end of a pipe to the other, bounded in bytes."""

    __slots__ = ("is_closed", "is_lost", "messages", "queued", "waiting_reader", "waiting_writers")

    def __init__(self) -> None:
        self.messages: collections.deque[bytes | None] = collections.deque()
        self.queued = 0
        self.is_closed = False
        self.is_lost = False
        self.waiting_reader: asyncio.Future[None] | None = None
        self.waiting_writers: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        if self.waiting_reader is not None and not self.waiting_reader.done():
            self.waiting_reader.set_result(None)
        for writer in self.waiting_writers:
            if not writer.done():
                writer.set_result(None)


class PipeEnd:
    """One end of `pipe()`: a Transport in memory."""

    __slots__ = ("_in", "_limit", "_out", "close_code", "peer")

    def __init__(self, incoming: _Direction, outgoing: _Direction, limit: int, peer: str) -> None:
        self._in = incoming
        self._out = outgoing
        self._limit = limit
        self.peer = peer
        self.close_code: int | None = None
        """What `close` was called with, for tests."""

    async def send(self, message: bytes) -> None:
        out = self._out
        if out.is_lost or out.is_closed:
            raise ConnectionResetError("pipe closed")
        out.messages.append(message)
        out.queued += len(message)
        out.wake()
        while out.queued > self._limit:
            await self._wait_for_reader()
            if out.is_lost:
                raise ConnectionResetError("pipe closed")

    async def _wait_for_reader(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._out.waiting_writers.add(waiter)
        try:
            await waiter
        finally:
            self._out.waiting_writers.discard(waiter)

    async def receive(self) -> bytes:
        incoming = self._in
        while True:
            if incoming.is_lost:
                raise ConnectionResetError("pipe aborted")
            if incoming.messages:
                message = incoming.messages.popleft()
                if message is _CLOSE:
                    incoming.messages.append(_CLOSE)
                    raise EOFError
                incoming.queued -= len(message)
                incoming.wake()
                return message
            incoming.waiting_reader = asyncio.get_running_loop().create_future()
            try:
                await incoming.waiting_reader
            finally:
                incoming.waiting_reader = None

    def limit_unsent(self, size: int) -> None:
        """There is no kernel in between."""

    def abort(self) -> None:
        for direction in (self._in, self._out):
            direction.is_lost = True
            direction.messages.clear()
            direction.queued = 0
            direction.wake()

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye in both directions and wait until the peer has read it, as a WebSocket's close handshake does."""
        self.close_code = code
        for direction in (self._in, self._out):
            if not direction.is_closed:
                direction.is_closed = True
                direction.messages.append(_CLOSE)
                direction.wake()
        while not self._out.is_lost and len(self._out.messages) > 1:
            await self._wait_for_reader()


def pipe(limit: int = 256 * 1024) -> tuple[PipeEnd, PipeEnd]:
    """Return two transports that talk to each other, each direction holding about `limit` bytes before `send` waits."""
    one, two = _Direction(), _Direction()
    return PipeEnd(one, two, limit, "pipe:a"), PipeEnd(two, one, limit, "pipe:b")
