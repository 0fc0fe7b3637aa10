"""Connections that are neither for the relay nor an agent's go to aiohttp: management API, health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

GOODBYE_S: Final = 2.0


class HandedOver(web.RequestHandler):
    """aiohttp's connection handler that also tells the edge when the connection has ended."""

    __slots__ = ("_when_lost",)

    def __init__(self, manager: web.Server, when_lost: Callable[[], None], **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self._when_lost = when_lost

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._when_lost()


class Handover:
    """Owns the aiohttp runner and the connections it was given. `start` first, `close` last."""

    def __init__(self, app: web.Application) -> None:
        # auto_decompress would inflate request bodies behind the application's back (B16).
        self._options: dict[str, Any] = {"auto_decompress": False, "keepalive_timeout": 75.0, "access_log": None}
        self._transports: set[asyncio.Transport] = set()
        self._all_gone = asyncio.Event()
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.25, **self._options)

    async def start(self) -> None:
        await self._runner.setup()

    @property
    def open_connections(self) -> int:
        return len(self._transports)

    async def close(self) -> None:
        """Give handlers GOODBYE_S to end, then cancel them and drop their connections."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while self._transports:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        # cleanup cancels the handlers that are left; aborting first would orphan them, aiohttp lets them run on.
        await self._runner.cleanup()
        for transport in tuple(self._transports):
            transport.abort()

    def take(self, transport: asyncio.Transport, received: bytes, when_lost: Callable[[], None]) -> None:
        """Give the connection with the bytes read from it (one whole request head at least) to aiohttp, for good."""
        server = self._runner.server
        if server is None:
            transport.abort()
            when_lost()
            return

        def lost() -> None:
            self._transports.discard(transport)
            if not self._transports:
                self._all_gone.set()
            when_lost()

        self._transports.add(transport)
        handler = HandedOver(server, lost, **self._options)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(received)
