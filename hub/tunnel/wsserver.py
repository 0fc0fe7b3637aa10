"""An agent's WebSocket, as aiohttp serves it, as a transport. The only place that knows both."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from aiohttp import WSMsgType, web

from proto.aio.transport import limit_unsent, tune
from proto.limits import MESSAGE_MAX_BYTES
from proto.versions import SUBPROTOCOL

CONTROL_FRAMES_PER_S: Final = 20.0
"""WebSocket pings and pongs of an agent in the long run (D11); riata's own pings are frames inside messages."""
CONTROL_FRAMES_BURST: Final = 100.0

_CLOSE_TIMEOUT_S: Final = 2.0
_POLICY_VIOLATION: Final = 1008
_UNSUPPORTED: Final = 1003


def new_websocket() -> web.WebSocketResponse:
    """A WebSocket without compression (a shared compressor is an oracle and costs 100 KiB a connection; D12).

    aiohttp's `max_msg_size` is exclusive. `writer_limit` 0 makes each send wait until the socket's buffer has room.
    """
    return web.WebSocketResponse(
        protocols=(SUBPROTOCOL,),
        compress=False,
        autoping=False,
        heartbeat=None,
        timeout=_CLOSE_TIMEOUT_S,
        max_msg_size=MESSAGE_MAX_BYTES + 1,
        writer_limit=0,
    )


class ServerTransport:
    """Implements proto.aio.transport.Transport over a prepared WebSocket of `request`."""

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse) -> None:
        self.peer = peer_of(request)
        self._websocket = websocket
        self._transport = request.transport
        self._loop = asyncio.get_running_loop()
        self._allowance = CONTROL_FRAMES_BURST
        self._counted_at = self._loop.time()
        self._owed_pong: bytes | None = None
        if self._transport is not None:
            tune(self._transport.get_extra_info("socket"), transport=self._transport)

    async def send(self, message: bytes) -> None:
        try:
            await self._websocket.send_bytes(message)
        except RuntimeError as error:  # aiohttp's word for a WebSocket that is closed
            raise ConnectionResetError("the WebSocket is closed") from error
        if self._owed_pong is not None:
            payload, self._owed_pong = self._owed_pong, None
            await self._pong(payload)

    async def receive(self) -> bytes:
        while True:
            message = await self._websocket.receive()
            if message.type is WSMsgType.BINARY:
                data: bytes = message.data
                return data
            if message.type in (WSMsgType.PING, WSMsgType.PONG):
                await self._control(message.type, message.data)
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                raise EOFError
            else:
                await self._refuse(_UNSUPPORTED, "binary messages only")

    def limit_unsent(self, size: int) -> None:
        if self._transport is not None:
            limit_unsent(self._transport.get_extra_info("socket"), size)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int, reason: str) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._websocket.close(code=code, message=reason.encode()[:120])

    async def _control(self, kind: WSMsgType, payload: bytes) -> None:
        now = self._loop.time()
        self._allowance = min(CONTROL_FRAMES_BURST, self._allowance + (now - self._counted_at) * CONTROL_FRAMES_PER_S)
        self._counted_at = now
        if self._allowance < 1:
            await self._refuse(_POLICY_VIOLATION, "too many control frames")
        self._allowance -= 1
        if kind is WSMsgType.PING:
            if self._transport is not None and self._transport.get_write_buffer_size():
                self._owed_pong = payload  # the reader never waits: the writer sends it, and the last one is enough
            else:
                await self._pong(payload)

    async def _pong(self, payload: bytes) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._websocket.pong(payload)

    async def _refuse(self, code: int, reason: str) -> None:
        await self.close(code, reason)
        raise ConnectionAbortedError(reason)


def peer_of(request: web.Request) -> str:
    """`host:port` of the far end, for logs and the API."""
    address = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unknown"
