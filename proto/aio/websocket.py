"""A WebSocket of the tunnel behind its opening handshake, either end: a Transport over an asyncio transport.

It takes the connection over from what made the handshake (`set_protocol`). Reading never waits: a message is handed to
the link in the same call that brought its last byte.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from proto import websocket
from proto.aio.gone import GONE
from proto.aio.inbox import Inbox, Receiver
from proto.aio.transport import READ_PIECE_BYTES, TUNNEL_BUFFER, address_text, reset_on_close, tune
from proto.limits import HANDSHAKE_MAX_BYTES, MESSAGE_MAX_BYTES
from proto.websocket import Control, FrameReader, WebSocketError
from proto.window import Bucket

CONTROL_FRAMES_PER_S: Final = 20.0
"""WebSocket pings and pongs of a peer in the long run (facts/security.md D11); riata's own pings are frames inside
messages."""
CONTROL_FRAMES_BURST: Final = 100.0
LINGER_S: Final = 1.0
_MASKS: Final = 1024
"""Masks that are drawn from the system at a time."""


class WebSocketTransport(asyncio.BufferedProtocol):
    """Implements proto.aio.transport.Transport. `early`: bytes that came behind the opening handshake. `notice` calls
    what it is given now or in a later turn of the loop: the receiver hears then that the connection is lost."""

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        is_server: bool,
        early: bytes = b"",
        notice: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.is_writable = True
        self.close_code: int | None = None
        """What the peer's CLOSE said."""
        self._transport = transport
        self._is_server = is_server
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(is_server=is_server, message_max=HANDSHAKE_MAX_BYTES)
        self._inbox = Inbox()
        self._notice = notice
        self._masks = b""
        self._mask_at = 0
        self._has_said_close = False
        self._is_over = False
        """Nothing more is read: the peer's CLOSE has come, or it broke the framing."""
        self._lingers = False
        """It ends by itself, LINGER_S behind a refusal at the latest."""
        self._gone = self._loop.create_future()
        self._owed_pong: bytes | None = None
        self._allowance = Bucket(CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_S)
        self.peer = address_text(transport.get_extra_info("peername"))
        tune(transport.get_extra_info("socket"), transport=transport)
        transport.set_protocol(self)
        if early:
            self._feed(memoryview(early))
        self._resume()

    @property
    def tls(self) -> object:
        """The TLS object of the connection, for what can be read from it; None without TLS and once it is gone."""
        return self._transport.get_extra_info("ssl_object")

    # Transport

    def write(self, message: bytes) -> None:
        """Write one binary message; nothing once the connection ends."""
        if not self._has_said_close:
            self._transport.write(websocket.frame(websocket.BINARY, message, self._mask()))

    async def send(self, message: bytes) -> None:
        """Write a message of the handshake. Raises ConnectionError."""
        if self._has_said_close or self._transport.is_closing():
            raise ConnectionResetError("the WebSocket is closed")
        self.write(message)

    async def receive(self) -> bytes:
        message = await self._inbox.receive()
        self._resume()
        return message

    def bind(self, receiver: Receiver) -> None:
        self._reader.message_max = MESSAGE_MAX_BYTES
        self._inbox.bind(receiver)
        self._resume()

    def abort(self) -> None:
        if not self._lingers:
            self._transport.abort()

    def reset(self) -> None:
        reset_on_close(self._transport)
        self.abort()

    async def close(self, code: int, reason: str) -> None:
        self._say_close(code, reason)
        await asyncio.shield(self._gone)

    # asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:
        return TUNNEL_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        for at in range(0, nbytes, READ_PIECE_BYTES):
            self._feed(TUNNEL_BUFFER[at : min(at + READ_PIECE_BYTES, nbytes)])

    def eof_received(self) -> None:
        """The peer ends its direction: so does the transport by our returning None."""

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._owed_pong is not None:
            payload, self._owed_pong = self._owed_pong, None
            self._pong(payload)
        if self._inbox.receiver is not None:
            self._inbox.receiver.transport_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = self._has_said_close = True
        self.is_writable = False  # what is asked until the loss is noticed stays here, and was never sent
        if not self._gone.done():
            self._gone.set_result(None)
        self._transport = GONE
        if self._notice is None:
            self._lose()
        else:
            self._notice(self._lose)

    # Internals

    def _lose(self) -> None:
        self._inbox.lose(ConnectionResetError("the connection broke"))

    def _resume(self) -> None:
        """Read on, unless messages of the handshake wait to be read."""
        if not self._inbox.is_full and not self._transport.is_closing():
            self._transport.resume_reading()

    def _feed(self, data: memoryview) -> None:
        if self._is_over:
            return
        try:
            self._reader.feed(data, self._take_message, self._take_control)
        except WebSocketError as error:
            self._refuse(error)
        else:
            if self._reader.under_way and (receiver := self._inbox.receiver) is not None:
                receiver.part_received(self._reader.under_way)
        if self._inbox.is_full:
            self._transport.pause_reading()

    def _take_message(self, message: bytes) -> None:
        if not self._is_over:
            self._inbox.put(message)

    def _take_control(self, control: Control) -> None:
        """Raises WebSocketError."""
        if self._is_over:
            return
        if control.opcode == websocket.CLOSE:
            self.close_code, reason = websocket.read_close(control.payload)
            self._is_over = True
            self._say_close(websocket.NORMAL if self.close_code == 1005 else self.close_code, "")
            self._transport.close()
            self._inbox.lose(EOFError(f"the peer closed the WebSocket ({self.close_code} {reason})".rstrip()))
            return
        self._spend()
        if control.opcode == websocket.PING:
            if not self.is_writable:
                self._owed_pong = control.payload  # later, and the last one is enough
            else:
                self._pong(control.payload)

    def _spend(self) -> None:
        if not self._allowance.take(self._loop.time()):
            raise WebSocketError(websocket.POLICY_VIOLATION, "too many control frames")

    def _pong(self, payload: bytes) -> None:
        if not self._has_said_close:
            self._transport.write(websocket.frame(websocket.PONG, payload, self._mask()))

    def _refuse(self, error: WebSocketError) -> None:
        """Say why and wait for the peer to close: an end with unread bytes is a reset, which would eat the reason."""
        self._is_over = self._lingers = True
        self._say_close(error.code, error.text)
        self._loop.call_later(LINGER_S, self._transport.abort)
        self._inbox.lose(ConnectionAbortedError(error.text))

    def _say_close(self, code: int, reason: str) -> None:
        if not self._has_said_close:
            payload = websocket.close_payload(code, reason)
            self._transport.write(websocket.frame(websocket.CLOSE, payload, self._mask()))
            self._has_said_close = True

    def _mask(self) -> bytes | None:
        """§5.3: a client's frames are masked with what nobody can foresee."""
        if self._is_server:
            return None
        at = self._mask_at
        if at >= len(self._masks):
            self._masks, at = secrets.token_bytes(websocket.MASK_BYTES * _MASKS), 0
        self._mask_at = at + websocket.MASK_BYTES
        return self._masks[at : at + websocket.MASK_BYTES]
