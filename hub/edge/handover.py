"""Connections that are not for the relay go to aiohttp: management API, health, the agents' WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web


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
    """Owns the aiohttp runner. `start` first, `close` last."""

    def __init__(self, app: web.Application) -> None:
        # auto_decompress would inflate request bodies behind the application's back (B16).
        self._options: dict[str, Any] = {"auto_decompress": False, "keepalive_timeout": 75.0, "access_log": None}
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=5.0, **self._options)

    async def start(self) -> None:
        await self._runner.setup()

    async def close(self) -> None:
        await self._runner.cleanup()

    def take(self, transport: asyncio.Transport, received: bytes, when_lost: Callable[[], None]) -> None:
        """Give the connection with the bytes read from it (one whole request head at least) to aiohttp, for good."""
        server = self._runner.server
        if server is None:
            transport.abort()
            when_lost()
            return
        handler = HandedOver(server, when_lost, **self._options)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(received)
