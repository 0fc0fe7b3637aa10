"""The way to a tunnel that another worker owns, for the request path: as a link, with one hop in between.

A hop has a session of its own (the tunnel's protocol over a pair of Unix sockets), opened by the first request and
closed when it has had none for a while. It ends with the tunnel: the owner says so and which streams went down with it,
and closes the session when what the agent had answered by then is delivered. Signs of life of the agent come as
one-shot messages.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

from hub.workers.directory import Remote
from hub.workers.hoplimits import hop_limits, negotiated
from hub.workers.packets import pair
from hub.workers.transport import HopTransport
from proto import errors as wire
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.events import EndKind
from proto.limits import Limits
from proto.messages import Opening, StreamClass, StreamKind
from proto.session import Role, Session
from proto.window import Budget

logger = logging.getLogger(__name__)

IDLE_S: Final = 5.0
"""A hop without a stream for this long is closed: one costs little to open, and two sessions to keep."""

PROBE: Final = 1
"""Topic towards the owner: ping the agent, and answer with ALIVE. Body: one byte, 1 = a recent sign of life will do."""
ALIVE: Final = 2
"""Topic from the owner: how long ago the agent was heard, and the round trip to it or -1, in seconds (doubles)."""
ANSWERED: Final = 3
"""As ALIVE, and every PROBE so far is answered by it."""
SIGN: Final = struct.Struct("!dd")
ENDED: Final = 4
"""Topic from the owner: the tunnel has ended, and with it these streams, whose answer was not whole. Body: ids."""
ID: Final = struct.Struct("!I")


class Hop:
    """Implements hub.route.Route. `connect` gives one end of a pair to the owner."""

    def __init__(
        self,
        remote: Remote,
        *,
        connect: Callable[[socket.socket], None],
        tasks: TaskGroup,
        limits: Limits,
        budget: Budget,
        on_drain: Callable[[Hop], object],
        on_open: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.remote = remote
        opened = remote.opened
        at = f"{opened.cluster_name}:{opened.node}" if opened.node else opened.cluster_name
        self.name = f"{at}/{opened.instance.hex()[:8]}@{opened.worker}"
        self._connect = connect
        self._tasks = tasks
        self._limits = hop_limits(limits)
        self._budget = budget
        self._on_drain = on_drain
        self._on_open = on_open
        self._clock = clock
        self._link: Link | None = None
        self._heard_at = -math.inf
        """Nothing is known of the agent before its owner says something: a change asks first."""
        self._rtt_s: float | None = None
        self._asked_at: float | None = None
        self._asked: set[bytes] = set()
        self._waiting: list[Callable[[bool], None]] = []
        self._used_at = clock()

    def __repr__(self) -> str:
        return f"<Hop {self.name}>"

    # -- hub.route.Route

    @property
    def is_open(self) -> bool:
        return self.remote.is_open and (self._link is None or self._link.is_open)

    @property
    def may_open(self) -> bool:
        """One whose own session closes, since it was idle, opens another; one whose agent goes away takes nothing."""
        if self.remote.is_draining or not self.remote.is_open:
            return False
        return self._link is None or not self._link.is_open or self._link.may_open

    @property
    def is_draining(self) -> bool:
        return self.remote.is_draining

    @property
    def compresses(self) -> bool:
        return self.remote.opened.compresses

    @property
    def last_received_at(self) -> float:
        return self._heard_at

    @property
    def unanswered_ping_at(self) -> float | None:
        return self._asked_at

    @property
    def rtt_s(self) -> float | None:
        """As the owner last said."""
        return self._rtt_s

    @property
    def streams(self) -> int:
        """Open streams of this worker."""
        return 0 if self._link is None else self._link.streams

    @property
    def queued_bytes(self) -> int:
        return 0 if self._link is None else self._link.queued_bytes

    def open(
        self,
        message: Opening,
        owner: StreamOwner,
        *,
        kind: StreamKind,
        cls: StreamClass,
        end: bool = False,
        is_long: bool = False,
    ) -> LinkStream:
        """A hop is short, so `is_long` means nothing here."""
        if not self.remote.is_open:
            raise wire.SessionLost("the tunnel has ended")
        stream = self._live_link().open(message, owner, kind=kind, cls=cls, end=end)
        self._used_at = self._clock()
        self._on_open()
        return stream

    def probe(self, settled: Callable[[bool], None] | None = None) -> None:
        if not self.remote.is_open:
            if settled is not None:
                settled(False)
            return
        if settled is not None:
            self._waiting.append(settled)
        if self._asked_at is None:
            self._asked_at = self._clock()
        # Who waits with a change takes a sign of the last seconds, as it would in the owner's process; who waits for
        # an answer wants a new one.
        body = b"\x01" if settled is not None else b"\x00"
        if body not in self._asked:
            self._asked.add(body)
            try:
                self._live_link().send_message(PROBE, body, droppable=False)
            except wire.SessionLost:
                self._settle(is_alive=False)

    def owners(self) -> Sequence[StreamOwner]:
        return () if self._link is None else self._link.owners()

    # -- for the registry

    def close(self) -> None:
        """The tunnel has ended, or so has this process. The owner closes the session; it knows what was taken."""
        self._settle(is_alive=False)

    def close_if_idle(self) -> None:
        link = self._link
        if link is not None and link.is_open and not link.streams and not self._waiting:
            if self._clock() - self._used_at >= IDLE_S:
                link.close(Code.CLOSED, "idle")
        elif link is not None and link.streams:
            self._used_at = self._clock()

    # -- internals

    def _live_link(self) -> Link:
        """Raises SessionLost when no way can be made: the request goes elsewhere, nothing was sent."""
        link = self._link
        if link is None or not link.is_open:
            link = self._link = self._dial()
        return link

    def _dial(self) -> Link:
        """Raises SessionLost."""
        try:
            ours, theirs = pair()
        except OSError as error:  # no descriptors are left
            logger.warning("no way to another worker", extra={"hop": self.name, "reason": error.strerror})
            raise wire.SessionLost(f"no way to the worker that has the tunnel: {error.strerror}") from error
        session = Session(Role.HUB, negotiated(self._limits), self._limits, budget=self._budget)
        link = Link(
            session,
            HopTransport(ours, f"worker {self.remote.opened.worker}"),
            on_open=_refuse,
            on_drain=lambda _: self._drains(),
            on_message=self._message,
            on_end=lambda: self._ended(link),
            name=f"hop {self.name}",
        )
        self._tasks.spawn(self._run(link), name=f"hop {self.name}")
        self._connect(theirs)
        return link

    async def _run(self, link: Link) -> None:
        reason = await link.run()
        logger.debug("hop ended", extra={"hop": self.name, "end": reason.kind.value, "code": reason.code.name})

    def _ended(self, link: Link) -> None:
        reason = link.end_reason
        if reason is not None and reason.kind is EndKind.PEER and reason.code is Code.CLOSED:
            self.remote.is_open = False  # the owner's word that the tunnel has ended
        if self._link is link:
            self._link = None
        self._settle(is_alive=False)  # who asked on a newer one meanwhile asks again

    def _drains(self) -> None:
        self.remote.is_draining = True
        self._on_drain(self)

    def _message(self, topic: int, body: bytes) -> None:
        if topic == ENDED and len(body) % ID.size == 0:
            self._tunnel_ended([stream_id for (stream_id,) in ID.iter_unpack(body)])
        if topic not in (ALIVE, ANSWERED) or len(body) != SIGN.size:
            return
        age_s, rtt_s = SIGN.unpack(body)
        self._rtt_s = rtt_s if rtt_s >= 0 else None
        self._heard_at = max(self._heard_at, self._clock() - age_s)
        if topic == ANSWERED:
            self._settle(is_alive=True)

    def _tunnel_ended(self, lost: list[int]) -> None:
        """By way of the main process it is told later. Who asked meanwhile would come in vain."""
        self.remote.is_open = False
        if self._link is not None:
            self._link.lose(lost, "the tunnel has ended")
        self._settle(is_alive=False)

    def _settle(self, *, is_alive: bool) -> None:
        self._asked_at = None
        self._asked.clear()
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            settled(is_alive)


def _refuse(stream: LinkStream, kind: StreamKind, cls: StreamClass, message: Opening) -> StreamOwner | None:
    stream.reset(Code.FORBIDDEN, "a tunnel's owner opens no streams")
    return None
