"""`/metrics` on a listener of its own. Rendering belongs in a thread: a thousand clusters take 170 ms (trap 26).

Beside it `/livez`: the main listener lets nobody in while all its connections are taken, and whoever ended a hub that
does not answer there would end one that works. Of a hub with workers it speaks for the main process, which looks after
them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from hub.bootstrap import SetupError
from hub.config import host_and_port, is_loopback
from hub.edge.listener import bind

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BACKLOG: Final = 128


class MetricsServer:
    """Start it, close it. Serves whoever can reach the address: no authentication, so keep it on loopback or a network
    of its own."""

    def __init__(self, render: Callable[[], Awaitable[bytes]]) -> None:
        self._render = render
        self._one_at_a_time = asyncio.Lock()
        app = web.Application()
        app.router.add_get("/metrics", self._serve)
        app.router.add_get("/livez", _livez)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0, shutdown_timeout=1.0)

    async def start(self, address: str) -> tuple[str, int]:
        """Listen on HOST:PORT, where port 0 is one for all addresses; the first that is bound. Raises SetupError."""
        host, port = host_and_port(address)
        if not is_loopback(host):
            logger.warning("metrics are served beyond this host without authentication", extra={"at": address})
        await self._runner.setup()
        try:
            sockets = bind(host, port, BACKLOG)
        except OSError as exc:
            await self._runner.cleanup()
            raise SetupError(f"cannot listen on {address} for metrics: {exc.strerror or exc}") from exc
        for sock in sockets:
            await web.SockSite(self._runner, sock, backlog=BACKLOG).start()
        bound = sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, _request: web.Request) -> web.Response:
        async with self._one_at_a_time:
            content = await self._render()
        return web.Response(body=content, headers={"Content-Type": CONTENT_TYPE, "Server": "riata"})


async def _livez(_request: web.Request) -> web.Response:
    """The event loop runs, since it answers."""
    return web.Response(body=b"ok\n", headers={"Content-Type": "text/plain", "Server": "riata"})
