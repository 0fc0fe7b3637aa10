"""A packet socket as a transport of the tunnel protocol: the hop between two workers."""

from __future__ import annotations

import asyncio
import socket

from hub.workers.packets import PacketSocket
from proto.aio.inbox import Inbox, Receiver


class HopTransport:
    """Implements proto.aio.transport.Transport. Whoever holds the other end is a process of this hub."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self._inbox = Inbox()
        self._emptied: asyncio.Future[None] | None = None
        self._socket = PacketSocket(
            sock, on_packet=self._packet, on_lost=self._lost, on_room=self._room, takes_sockets=False
        )

    @property
    def is_writable(self) -> bool:
        return not self._socket.waiting_bytes

    def write(self, message: bytes) -> None:
        self._socket.send(message)

    async def send(self, message: bytes) -> None:
        """There is no handshake on a hop."""
        if self._socket.is_closed:
            raise ConnectionResetError("the hop is closed")
        self._socket.send(message)

    async def receive(self) -> bytes:
        return await self._inbox.receive()

    def bind(self, receiver: Receiver) -> None:
        self._inbox.bind(receiver)

    def abort(self) -> None:
        if not self._socket.is_closed:
            self._socket.close()
            self._end(ConnectionAbortedError("the hop was aborted"))

    def reset(self) -> None:
        self.abort()

    async def close(self, code: int, reason: str) -> None:
        """The other end reads what was written, and then the end."""
        if self._socket.waiting_bytes:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
        self.abort()

    def _packet(self, packet: bytes, sockets: list[socket.socket]) -> None:
        self._inbox.put(packet)

    def _lost(self) -> None:
        self._end(EOFError())

    def _end(self, error: Exception) -> None:
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        asyncio.get_running_loop().call_soon(self._inbox.lose, error)

    def _room(self) -> None:
        if self._emptied is not None:
            if not self._emptied.done():
                self._emptied.set_result(None)
        elif self._inbox.receiver is not None:
            self._inbox.receiver.transport_writable()
