"""The public listener as one object: sockets, connections, deadlines, drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from hub.edge.application import TUNNEL_PATH, Application, Tunnels
from hub.edge.connection import EdgeConnection
from hub.edge.framing import Request, host_name
from hub.edge.handover import Handover
from hub.edge.limits import EdgeLimits
from hub.edge.listener import Listener, bind
from hub.edge.origin import origin_of_peer
from hub.edge.vanished import gone
from proto.aio import tasks

_TUNNEL_PATH: Final = TUNNEL_PATH.encode()


SHUT_S: Final = 0.5
"""Longer than who has knocked needs to be let in (`LAST_ACK_S` and a handshake from near): then watches end, whoever is
silent at the door."""
LEAVE_S: Final = 0.3
"""Longer than busy clients leave a connection idle."""


class EdgeServer:
    """Serves requests under /k8s/ through `application`, agents through `tunnels`, all others through `aiohttp_app`.

    Implements `hub.edge.connection.Host`. `listen`: (host, port) pairs, port 0 picks one. `tls` None is plain HTTP.
    `host_names`: names and addresses that `Host` may carry, None for any. `sockets`: listening already, instead of
    `listen`.
    """

    def __init__(
        self,
        *,
        listen: Sequence[tuple[str, int]],
        tls: ssl.SSLContext | None,
        aiohttp_app: web.Application,
        application: Application,
        tunnels: Tunnels,
        limits: EdgeLimits | None = None,
        host_names: frozenset[str] | None = None,
        sockets: Sequence[socket.socket] | None = None,
    ) -> None:
        self.limits = limits or EdgeLimits()
        self.application = application
        self.host_names = None if host_names is None else frozenset(host_name(name.encode()) for name in host_names)
        self.is_leaving = self.is_draining = False
        self._listen = list(listen)
        self._sockets = sockets
        self._tls = tls
        self._handover = Handover(aiohttp_app, lambda peer, error: application.refused(peer, error, None))
        self._tunnels = tunnels
        self._connections: set[EdgeConnection] = set()
        self._young: dict[str, int] = {}
        self._listener: Listener | None = None
        self._tasks = tasks.TaskGroup("edge")
        self._all_idle = asyncio.Event()

    @property
    def open_connections(self) -> int:
        return len(self._connections) + self._handover.open_connections + len(self._tunnels)

    async def start(self) -> list[tuple[str, int]]:
        """Listen and serve; the bound addresses. Raises OSError and leaves nothing open."""
        await self._handover.start()
        sockets = list(self._sockets or ())
        try:
            for host, port in self._listen if self._sockets is None else ():
                sockets += bind(host, port, self.limits.backlog)
        except OSError:
            for sock in sockets:
                sock.close()
            await self._handover.close()
            raise
        self._listener = Listener(
            sockets,
            tls=self._tls,
            limits=self.limits,
            make_protocol=self._make_protocol,
            open_count=lambda: self.open_connections,
            greetings=lambda: self._tunnels.greetings,
        )
        self._listener.start()
        self._tasks.spawn(self._sweep(), name="sweep")
        return self._listener.addresses

    async def leave(self) -> None:
        """Serve on, but let every answer end its connection: for LEAVE_S, if anybody is there. A connection that is
        closed while its client sends the next request costs that client an error (RFC 9112 §9.5)."""
        self._tell()
        if self._connections:
            await asyncio.sleep(LEAVE_S)

    async def drain(self, deadline_s: float, when_shut: Callable[[], None] = lambda: None) -> None:
        """Accept nothing more, close idle connections, call `when_shut`, wait at most `deadline_s` for the requests
        under way. For who comes late by a handshake both are done again."""
        self.is_draining = True
        self._tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                try:
                    await self._greet_last(SHUT_S)
                finally:
                    self._shut(when_shut)
                await self._greet_last(deadline_s)
                self._shut(when_shut)
                while self._connections:
                    self._all_idle.clear()
                    await self._all_idle.wait()

    async def close(self) -> None:
        """End everything now: relayed requests break off, sessions and aiohttp get their time to say goodbye."""
        self.is_leaving = self.is_draining = True
        if self._listener is not None:
            await self._listener.aclose()
        for connection in tuple(self._connections):
            connection.shut()
        await self._tunnels.aclose()
        await self._handover.close()
        await self._tasks.aclose()

    # -- hub.edge.connection.Host

    def opened(self, connection: EdgeConnection) -> None:
        self._connections.add(connection)
        origin = origin_of_peer(connection.peer)
        count = self._young.get(origin, 0) + 1
        self._young[origin] = count
        if count > self.limits.young_per_address_max:
            connection.shut()

    def matured(self, connection: EdgeConnection) -> None:
        connection.is_young = False
        origin = origin_of_peer(connection.peer)
        count = self._young.get(origin, 0) - 1
        if count > 0:
            self._young[origin] = count
        else:
            self._young.pop(origin, None)

    def closed(self, connection: EdgeConnection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if connection.is_young:
            self.matured(connection)
        self._has_room()
        if not self._connections:
            self._all_idle.set()

    def hand_over(
        self,
        connection: EdgeConnection,
        transport: asyncio.Transport,
        request: Request,
        received: bytes,
        head_bytes: int,
    ) -> None:
        self.closed(connection)
        if request.target.partition(b"?")[0] == _TUNNEL_PATH:
            self._tunnels.take(transport, request, received[head_bytes:], self._has_room)
        else:
            self._handover.take(transport, connection.below, request.peer, received, self._has_room)

    # -- internals

    async def _greet_last(self, limit_s: float) -> None:
        """Let in who has knocked, for so long."""
        if self._listener is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._listener.drain()

    def _shut(self, when_shut: Callable[[], None]) -> None:
        for connection in tuple(self._connections):
            connection.drain()
        when_shut()

    def _tell(self) -> None:
        """Have answers say that they end their connection: those too whose requests came before, if they have not
        begun."""
        self.is_leaving = True
        for connection in self._connections:
            if connection.request is not None:
                connection.request.is_keep_alive = False

    def _make_protocol(self, peer: str) -> EdgeConnection:
        return EdgeConnection(self, asyncio.get_running_loop(), peer, is_tls=self._tls is not None)

    def _has_room(self) -> None:
        if self._listener is not None:
            self._listener.room()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.sweep_interval_s)
            now = loop.time()
            if self._listener is not None:
                self._listener.go_on()
                self._listener.room()
            for connection in tuple(self._connections):
                connection.check(now)
            self._handover.check(now, self.limits.linger_s)
            for connection in gone([each for each in self._connections if each.is_paused]):
                connection.shut()
