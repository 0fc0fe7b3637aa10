"""`/metrics` on a listener of its own. Rendering belongs in a thread: a thousand clusters take 170 ms (trap 26)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from hub.bootstrap import SetupError
from hub.config import host_and_port, is_loopback

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Start it, close it. Serves whoever can reach the address: no authentication, so keep it on loopback or a network
    of its own."""

    def __init__(self, render: Callable[[], Awaitable[bytes]]) -> None:
        self._render = render
        self._one_at_a_time = asyncio.Lock()
        app = web.Application()
        app.router.add_get("/metrics", self._serve)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0, shutdown_timeout=1.0)

    async def start(self, address: str) -> tuple[str, int]:
        """Listen on HOST:PORT; the bound address. Raises SetupError."""
        host, port = host_and_port(address)
        if not is_loopback(host):
            logger.warning("metrics are served beyond this host without authentication", extra={"at": address})
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host or None, port).start()
        except OSError as exc:
            await self._runner.cleanup()
            raise SetupError(f"cannot listen on {address} for metrics: {exc.strerror or exc}") from exc
        bound = self._runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, _request: web.Request) -> web.Response:
        async with self._one_at_a_time:
            content = await self._render()
        return web.Response(body=content, headers={"Content-Type": CONTENT_TYPE, "Server": "riata"})
