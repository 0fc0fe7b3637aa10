"""A WebSocket client that is just enough for thousands of simulated agents in one process.

The masking key is zero, which RFC 6455 allows and which leaves the payload as it is: what is measured is the hub, and a
generator that spends its time on XOR measures itself.
"""

import asyncio
import base64
import secrets
import ssl
import struct
from collections.abc import Callable
from typing import Final, cast

from proto.limits import MESSAGE_MAX_BYTES
from proto.versions import SUBPROTOCOL

_BINARY: Final = 0x82
_CLOSE, _PING, _PONG = 0x88, 0x89, 0x8A
_MASKED: Final = 0x80
_KEY: Final = bytes(4)
HEAD_MAX: Final = 16 * 1024


class Refused(ConnectionError):
    """The hub answered the upgrade with something else. `retry_s` is its Retry-After, 0 without one."""

    def __init__(self, status: int, retry_s: float) -> None:
        super().__init__(f"status {status}")
        self.retry_s = retry_s


class Wire(asyncio.Protocol):
    """One connection: `opened` is settled by the answer to the upgrade, `receive` returns whole messages until
    `hand_to` names somebody who takes them."""

    def __init__(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._take: Callable[[bytes], None] = self._keep
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        head = (
            f"GET /v1/tunnel HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        )
        transport.write(head.encode())

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError("the hub left before its answer"))
        if not self.ended.done():
            self.ended.set_result(None)
        self._messages.put_nowait(b"")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.opened.done() and not self._read_head():
            return
        while self._read_frame():
            pass

    async def receive(self) -> bytes:
        """The next message. Raises EOFError when the connection has ended."""
        message = await self._messages.get()
        if not message:
            raise EOFError
        return message

    def hand_to(self, take: Callable[[bytes], None]) -> None:
        """Messages go there from now on, first those that have arrived."""
        self._take = take
        while not self._messages.empty():
            if message := self._messages.get_nowait():
                take(message)

    def send(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.write(_frame(_BINARY, message))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _keep(self, message: bytes) -> None:
        self._messages.put_nowait(message)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_MAX:
                self.abort()
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        status = int(lines[0].split()[1])
        if status == 101:
            self.opened.set_result(None)
            return True
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.opened.set_exception(Refused(status, float(fields.get("retry-after", "0"))))
        self.abort()
        return False

    def _read_frame(self) -> bool:
        """Take one whole frame off the buffer. The hub masks nothing and splits no message."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        kind, size, at = buffer[0], buffer[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            if len(buffer) < at:
                return False
            size = int.from_bytes(buffer[2:at], "big")
        if size > MESSAGE_MAX_BYTES:
            self.abort()
            return False
        if len(buffer) < at + size:
            return False
        payload = bytes(buffer[at : at + size])
        del buffer[: at + size]
        if kind == _BINARY:
            self._take(payload)
        elif kind == _PING and self._transport is not None:
            self._transport.write(_frame(_PONG, payload))
        elif kind not in (_PING, _PONG):  # its close, or what no hub sends
            self.abort()
            return False
        return True


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((kind, _MASKED | size)) + _KEY + payload
    if size < 65_536:
        return struct.pack("!BBH", kind, _MASKED | 126, size) + _KEY + payload
    return struct.pack("!BBQ", kind, _MASKED | 127, size) + _KEY + payload


async def connect(host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> Wire:
    """Name, TCP, TLS and the WebSocket's handshake. Raises OSError (Refused among them), TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        _, wire = await loop.create_connection(lambda: Wire(f"{host}:{port}"), host, port, ssl=context)
        try:
            await wire.opened
        except BaseException:
            wire.abort()
            raise
    return wire
