"""Connections that are neither for the relay nor an agent's go to aiohttp: management API, health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from hub import errors, status
from hub.edge.goodbye import unsent_bytes
from hub.edge.limits import FIELD_BYTES_MAX, FIELDS_MAX, HEAD_BYTES_MAX, IDLE_S

GOODBYE_S: Final = 2.0
UNREAD_S: Final = 30.0
"""Who has taken nothing of its answer for so long is let go: unlike the relay's clients it may be anybody."""

Refused = Callable[[str, errors.HubError], str]
"""Counts and logs a request that is refused before anybody has seen it; peer in, the request's id out."""


class Given:
    """A connection that aiohttp has, seen from outside once in a while."""

    def __init__(self, transport: asyncio.Transport, below: asyncio.WriteTransport | None) -> None:
        self.transport = transport
        self._below = below
        self._seen = (False, 0)
        """Whether it is closing, and what has not left."""
        self._since = 0.0

    def is_over(self, now: float, linger_s: float) -> bool:
        """Whether nobody need wait any more: the answer has arrived and its reader only says no goodbye, or it reads
        nothing. `now`: seconds that grow."""
        seen = is_closing, unsent = self.transport.is_closing(), unsent_bytes(self.transport, self._below)
        if seen != self._seen or not (is_closing or unsent):
            self._seen, self._since = seen, now
            return False
        return now - self._since >= (UNREAD_S if unsent else linger_s)


class HandedOver(web.RequestHandler):
    """aiohttp's connection handler that also tells the edge when the connection has ended, and what it cannot read.
    `peer`: from where it came, which its transport no longer says behind its end."""

    __slots__ = ("_refused", "_when_lost", "peer")

    def __init__(
        self, manager: web.Server, peer: str, when_lost: Callable[[], None], refused: Refused, **options: Any
    ) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.peer = peer
        self._when_lost = when_lost
        self._refused = refused

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp cannot read, of anybody, is refused as the edge refuses: aiohttp would write a traceback for
        each, and repeat in answer and log what was sent."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        error = errors.BadRequest()
        return _refusal(error, self._refused(self.peer, error))

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._when_lost()


class Handover:
    """Owns the aiohttp runner and the connections it was given. `start` first, `close` last. `refused`: hears of what
    aiohttp cannot read."""

    def __init__(self, app: web.Application, refused: Refused) -> None:
        self._refused = refused
        self._options: dict[str, Any] = {
            "auto_decompress": False,  # it would inflate request bodies behind the application's back (B16)
            "keepalive_timeout": IDLE_S,
            "access_log": None,
            # What the edge has let in is in order: aiohttp's own bounds are narrower.
            "max_line_size": HEAD_BYTES_MAX,
            "max_field_size": FIELD_BYTES_MAX,
            "max_headers": FIELDS_MAX,
        }
        self._given: set[Given] = set()
        self._all_gone = asyncio.Event()
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.25, **self._options)

    async def start(self) -> None:
        await self._runner.setup()

    @property
    def open_connections(self) -> int:
        return len(self._given)

    async def close(self) -> None:
        """Give handlers GOODBYE_S to end, then cancel them and drop their connections."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while self._given:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        # cleanup cancels the handlers that are left; aborting first would orphan them, aiohttp lets them run on.
        await self._runner.cleanup()
        for given in tuple(self._given):
            given.transport.abort()

    def check(self, now: float, linger_s: float) -> None:
        """Let those go that nobody need wait for; called by the server's sweep. Over TLS a stranger who says no goodbye
        would keep a place for minutes."""
        for given in tuple(self._given):
            if given.is_over(now, linger_s):
                given.transport.abort()

    def take(
        self,
        transport: asyncio.Transport,
        below: asyncio.WriteTransport | None,
        peer: str,
        received: bytes,
        when_lost: Callable[[], None],
    ) -> None:
        """Give the connection with the bytes read from it (one whole request head at least) to aiohttp, for good.
        `below`: what TLS writes to, where it shows it."""
        server = self._runner.server
        if server is None:
            transport.abort()
            when_lost()
            return

        given = Given(transport, below)

        def lost() -> None:
            self._given.discard(given)
            if not self._given:
                self._all_gone.set()
            when_lost()

        self._given.add(given)
        handler = HandedOver(server, peer, lost, self._refused, **self._options)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(received)


def _refusal(error: errors.HubError, request_id: str) -> web.Response:
    """As `hub.edge.response.error_response`."""
    code, body, more = status.answer(error, request_id=request_id)
    headers = {
        "Server": "riata",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Riata-Request-Id": request_id,
        **dict(more),
    }
    refusal = web.Response(status=code, body=body, content_type=status.CONTENT_TYPE, headers=headers)
    refusal.force_close()
    return refusal
