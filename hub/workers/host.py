"""The owner's side of the hops: other workers' streams are spliced onto this worker's tunnels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

from hub.tunnel.registry import Tunnel
from hub.workers.hop import ALIVE, ANSWERED, ENDED, ID, PROBE, SIGN
from hub.workers.hoplimits import hop_limits, negotiated
from hub.workers.splice import splice
from hub.workers.transport import HopTransport
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.aio.tasks import TaskGroup
from proto.aio.transport import Transport
from proto.errors import Code
from proto.limits import MSG_MAX_BYTES, Limits
from proto.messages import Opening, StreamClass, StreamKind
from proto.session import Role, Session
from proto.window import Budget

logger = logging.getLogger(__name__)

TELL_S: Final = 0.5
"""How often the other worker of a hop in use hears that the agent lives."""
RECENT_S: Final = 2.0
"""A sign of life for a change that waits: as old as the request path takes in one process (hub.proxy.silence)."""
DRAIN_S: Final = 3600.0
"""A hop of a draining tunnel ends with the tunnel, whose own deadline holds."""
LEAVE_S: Final = 10.0
"""How long the answers that were whole when their tunnel ended may take to reach who is slow to read them."""
_IDS_MAX: Final = MSG_MAX_BYTES // ID.size


class Visit:
    """One hop at its owner."""

    def __init__(self, tunnel: Tunnel, transport: Transport, limits: Limits, budget: Budget) -> None:
        self._tunnel = tunnel
        self._told_at = 0.0
        self._lost: list[int] = []
        """Streams whose answer was not whole when the tunnel ended."""
        session = Session(Role.AGENT, negotiated(limits), limits, budget=budget)
        self.link = Link(
            session,
            transport,
            on_open=self._open,
            on_message=self._message,
            name=f"visit {tunnel.link.name}",
        )

    def tell(self) -> None:
        """If streams are open and the agent was heard since the last time, say so."""
        heard_at = self._tunnel.link.last_received_at
        if self.link.streams and heard_at > self._told_at:
            self._told_at = heard_at
            self._send(ALIVE)

    def tell_end(self) -> None:
        """The tunnel has ended: say so, and with which streams. The others have their answers or their refusals, which
        may still be on their way; new ones find no tunnel and are refused."""
        for at in range(0, len(self._lost) + 1, _IDS_MAX):
            ids = b"".join(map(ID.pack, self._lost[at : at + _IDS_MAX]))
            if not self.link.send_message(ENDED, ids, droppable=False):
                self.close()

    async def leave(self) -> None:
        """End when all of that has left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self.link.emptied()
        self.close()

    def close(self) -> None:
        self.link.close(Code.CLOSED, "the tunnel has ended")

    def _open(self, near: LinkStream, kind: StreamKind, cls: StreamClass, message: Opening) -> StreamOwner | None:
        return splice(near, kind, cls, message, self._tunnel.link, self._lost)

    def _message(self, topic: int, body: bytes) -> None:
        tunnel = self._tunnel.link
        if topic != PROBE or not tunnel.is_open:
            return
        if body == b"\x01" and tunnel.clock() - tunnel.last_received_at <= RECENT_S:
            self._send(ANSWERED)
        else:
            tunnel.probe(self._probed)

    def _probed(self, is_alive: bool) -> None:
        if is_alive:  # otherwise the tunnel has ended, as is told
            self._send(ANSWERED)

    def _send(self, topic: int) -> None:
        tunnel = self._tunnel.link
        age_s = max(tunnel.clock() - tunnel.last_received_at, 0.0)
        rtt_s = -1.0 if tunnel.rtt_s is None else tunnel.rtt_s
        self.link.send_message(topic, SIGN.pack(age_s, rtt_s), droppable=False)


class Host:
    """Every hop to this worker's tunnels. `start` first, `aclose` last."""

    def __init__(self, limits: Limits, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = hop_limits(limits)
        self._budget = budget
        self._clock = clock
        self._visits: dict[Tunnel, set[Visit]] = {}
        self._tasks = TaskGroup("hops")

    def start(self) -> None:
        self._tasks.spawn(self._tell(), name="signs of life")

    async def aclose(self) -> None:
        await self._tasks.aclose()

    def __len__(self) -> int:
        return sum(map(len, self._visits.values()))

    def take(self, tunnel: Tunnel | None, sock: socket.socket, session_id: str) -> None:
        """Serve the other end of `sock`. None: the tunnel has ended before its visitor came, who is told that nothing
        was taken."""
        transport = HopTransport(sock, f"hop to {session_id}")
        if tunnel is None or not tunnel.link.is_open:
            self._tasks.spawn(turn_away(transport, self._limits), name="goodbye")
            return
        visit = Visit(tunnel, transport, self._limits, self._budget)
        self._visits.setdefault(tunnel, set()).add(visit)
        self._tasks.spawn(self._run(tunnel, visit), name=visit.link.name)
        if tunnel.link.is_draining:
            visit.link.send_drain(DRAIN_S, Code.DRAINING, "the agent drains")

    def draining(self, tunnel: Tunnel) -> None:
        """The agent of a tunnel goes away: no new streams, those there are may finish."""
        for visit in self._visits.get(tunnel, ()):
            visit.link.send_drain(DRAIN_S, Code.DRAINING, "the agent drains")

    def ended(self, tunnel: Tunnel) -> None:
        """The tunnel's session has ended: so do its hops, when they have delivered what it left."""
        for visit in tuple(self._visits.get(tunnel, ())):
            visit.tell_end()
            self._tasks.spawn(visit.leave(), name=f"end of {visit.link.name}")

    async def _run(self, tunnel: Tunnel, visit: Visit) -> None:
        try:
            await visit.link.run()
        finally:
            visits = self._visits.get(tunnel)
            if visits is not None:
                visits.discard(visit)
                if not visits:
                    del self._visits[tunnel]

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            for visits in tuple(self._visits.values()):
                for visit in tuple(visits):
                    visit.tell()


async def turn_away(transport: Transport, limits: Limits) -> None:
    """Tell whoever comes for a tunnel that has ended: nothing was taken, the requests may go elsewhere."""
    link = Link(Session(Role.AGENT, negotiated(limits), limits), transport, on_open=_none, name="ended tunnel")
    link.close(Code.CLOSED, "the tunnel has ended")
    await link.run()


def _none(stream: LinkStream, kind: StreamKind, cls: StreamClass, message: Opening) -> StreamOwner | None:
    stream.reset(Code.REFUSED, "the tunnel has ended")
    return None
