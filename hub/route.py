"""A live tunnel as the request path sees it, whoever owns it: a link of this process, or a hop to the process that
has the link (hub.workers.hop)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.messages import Opening, StreamClass, StreamKind


class Route(Protocol):
    """Part of proto.aio.link.Link."""

    @property
    def name(self) -> str: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def is_draining(self) -> bool: ...

    @property
    def compresses(self) -> bool:
        """The agent may compress the body of an answer, if it is let (proto.compression)."""

    @property
    def last_received_at(self) -> float:
        """When the agent was last heard, on the links' clock."""

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round trip to the agent, None while unknown."""

    @property
    def unanswered_ping_at(self) -> float | None: ...

    def open(
        self, message: Opening, owner: StreamOwner, *, kind: StreamKind, cls: StreamClass, end: bool = False
    ) -> LinkStream:
        """Raises SessionDraining, SessionLost, TooManyStreams, MessageTooBig: nothing was sent."""

    def probe(self, settled: Callable[[bool], None] | None = None) -> None:
        """Ask for a sign of life; `settled` is called once, False when the session ends first."""
