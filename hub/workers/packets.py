"""One end of a pair of Unix sockets that keep message boundaries (SOCK_SEQPACKET), in the event loop.

Every connection between the processes of a hub is such a pair, made in one of them and handed to the other: it has no
name in any directory, so nobody else can find it, and nothing is left behind when a process is killed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from proto.limits import MESSAGE_MAX_BYTES

logger = logging.getLogger(__name__)

PACKET_MAX: Final = MESSAGE_MAX_BYTES
SOCKETS_MAX: Final = 64
"""Sockets that one packet may carry: the listening ones of a worker."""
_SEND_BUFFER_BYTES: Final = 256 * 1024
"""A keystroke waits behind what lies there; a message of the tunnel protocol, at most 96 KiB, has to fit."""
_PACKETS_PER_TURN: Final = 32
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(SOCKETS_MAX * 4)
_GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED})
"""The other end is closed. The last is what older kernels say when both ends act in the same moment."""
_FLAGS: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_incoming: Final = bytearray(PACKET_MAX)
"""For every socket of the process: what was received is copied out before anything else can run."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, not blocking and not inherited."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (one, two):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return one, two


class PacketSocket:
    """Reads as soon as it is made, tells of each packet, and once of the end. `close` is silent."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_packet: Callable[[bytes, list[socket.socket]], None],
        on_lost: Callable[[], None],
        on_room: Callable[[], None] = lambda: None,
        takes_sockets: bool = True,
    ) -> None:
        """`on_room`: everything that waited for the socket has left. Without `takes_sockets` the kernel closes sockets
        that come, and receiving costs less."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._on_room = on_room
        self._takes_sockets = takes_sockets
        self._waiting: collections.deque[tuple[bytes, Sequence[socket.socket]]] = collections.deque()
        self.waiting_bytes = 0
        """Bytes that the socket has not taken yet."""
        self.is_closed = False
        self._is_reading = False
        self.resume()

    def send(self, packet: bytes, sockets: Sequence[socket.socket] = ()) -> bool:
        """Send or queue a packet of 1 to PACKET_MAX bytes; False when it waits. `sockets` go with it and are closed
        here. Nothing once closed."""
        if self.is_closed:
            _close_all(sockets)
            return True
        if not self._waiting and self._write(packet, sockets):
            return True
        if not self._waiting:
            self._loop.add_writer(self._sock.fileno(), self._flush)
        self._waiting.append((packet, sockets))
        self.waiting_bytes += len(packet)
        return False

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock.fileno())

    def resume(self) -> None:
        if not self._is_reading and not self.is_closed:
            self._is_reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Drop it and what waits. Idempotent."""
        if self.is_closed:
            return
        self.pause()
        self.is_closed = True
        if self._waiting:
            self._loop.remove_writer(self._sock.fileno())
            for _, sockets in self._waiting:
                _close_all(sockets)
            self._waiting.clear()
            self.waiting_bytes = 0
        self._sock.close()

    def _lose(self) -> None:
        if not self.is_closed:
            self.close()
            self._on_lost()

    def _write(self, packet: bytes, sockets: Sequence[socket.socket]) -> bool:
        """True when the packet is gone, one way or another; one that cannot go waits for the end."""
        try:
            if sockets:
                socket.send_fds(self._sock, [packet], [sock.fileno() for sock in sockets])
            else:
                self._sock.send(packet)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            if exc.errno not in _GONE:
                # What follows would be read as if nothing were missing. Who sends is busy: told later.
                logger.error("packet not sent, socket closed", extra={"bytes": len(packet), "reason": exc.strerror})
                self._loop.call_soon(self._lose)
                return False
            # Its last words may lie here unread: the reader finds them, and the end.
        _close_all(sockets)
        return True

    def _flush(self) -> None:
        while self._waiting:
            packet, sockets = self._waiting[0]
            if not self._write(packet, sockets):
                return
            self._waiting.popleft()
            self.waiting_bytes -= len(packet)
        self._loop.remove_writer(self._sock.fileno())
        self._on_room()

    def _readable(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            if not self._is_reading:
                return
            received: list[socket.socket] = []
            try:
                if self._takes_sockets:
                    size, ancillary, _, _ = self._sock.recvmsg_into([_incoming], _ANCILLARY_BYTES, _FLAGS)
                    received = _sockets(ancillary)
                else:
                    size = self._sock.recv_into(_incoming)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:  # closed with something of ours unread; told once, before what it had sent
                continue
            except OSError:
                size = 0
            if not size:
                _close_all(received)
                self._lose()
                return
            self._on_packet(bytes(memoryview(_incoming)[:size]), received)


def _sockets(ancillary: Sequence[tuple[int, int, bytes]]) -> list[socket.socket]:
    found: list[socket.socket] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for at in range(0, len(data) - len(data) % 4, 4):
                sock = socket.socket(fileno=int.from_bytes(data[at : at + 4], sys.byteorder, signed=True))
                sock.setblocking(False)
                found.append(sock)
    return found


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.close()
