"""A live tunnel as the request path sees it, whoever owns it: a link of this process, or a hop to the process that
has the link (hub.workers.hop); and what is decided about it (hub.tunnel.route)."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.messages import Opening, StreamClass, StreamKind

FIELD: Final = "riata-route"
"""Header field of answers to those who administer the cluster: `node/NAME; reason=fallback-retry; attempts=2`."""
QUIET_S: Final = 2.0
"""A tunnel without a byte for longer may be dead, since sessions in use ping every 2 s: a change waits for a sign of
life there (hub.proxy.silence), so it rather takes one that was heard."""


class Route(Protocol):
    """Part of proto.aio.link.Link."""

    @property
    def name(self) -> str: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def may_open(self) -> bool:
        """It takes new streams; so it may while only we have announced a drain."""

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

    @property
    def streams(self) -> int:
        """Open streams."""

    @property
    def queued_bytes(self) -> int:
        """DATA bytes in all send queues."""

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
        """`is_long`: the answer may be (proto.aio.link).

        Raises SessionDraining, SessionLost, TooManyStreams, MessageTooBig: nothing was sent."""

    def owners(self) -> Sequence[StreamOwner]:
        """Whose streams are open here."""

    def probe(self, settled: Callable[[bool], None] | None = None) -> None:
        """Ask for a sign of life; `settled` is called once, False when the session ends first."""


class Reason(enum.StrEnum):
    """Why a request takes a route, or finds none. A closed set: log fields, header values and metric labels."""

    ONLY = "only"
    """The cluster's only cluster agent."""
    HEALTHIEST = "healthiest"
    """The best of several cluster agents."""
    OTHER_LATE = "other-late"
    """Another cluster agent has not answered a ping in time."""
    OTHER_DRAINING = "other-draining"
    """Another cluster agent goes away."""
    RETRY = "retry"
    """A cluster agent, after another route was tried for this request."""
    FALLBACK_ABSENT = "fallback-no-cluster-agent"
    """A node agent: no cluster agent is connected."""
    FALLBACK_SILENT = "fallback-cluster-agent-silent"
    """A node agent: no cluster agent answers pings."""
    FALLBACK_DRAINING = "fallback-cluster-agent-draining"
    """A node agent: every cluster agent goes away."""
    FALLBACK_RETRY = "fallback-retry"
    """A node agent, after another route was tried for this request."""
    NONE_CONNECTED = "none-connected"
    """No agent of the cluster is connected."""
    NONE_ELIGIBLE = "none-eligible"
    """Only node agents are connected that may not serve requests."""
    NONE_ANSWERING = "none-answering"
    """No agent that may serve takes requests or answers pings."""
    NONE_LEFT = "none-left"
    """Every route has been tried for this request."""

    @property
    def role(self) -> str:
        """Role of the agent that was chosen with it, or `none`."""
        if self.value.startswith("none"):
            return "none"
        return "node" if self.value.startswith("fallback") else "cluster"


@dataclasses.dataclass(slots=True, eq=False)
class Candidate:
    """A route with what is known of the agent behind it; one for the life of a tunnel."""

    route: Route
    role: str
    instance: bytes
    node: str = ""
    """Name of its node, role node."""
    is_eligible: bool = False
    """It may serve requests: proven by its credential, never by its own word."""
    is_control_plane: bool = False
    """Its node says that it is one; orders the eligible ones and does nothing else."""
    is_remote: bool = False
    """Another worker process owns it."""
    connected_at: datetime.datetime | None = None
    """For people."""
    only: Decision = dataclasses.field(init=False)
    """The decision for a cluster that has nothing else: made once, since most requests end here."""
    _decisions: dict[Reason, Decision] = dataclasses.field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.only = self.chosen(Reason.ONLY)

    def let_go(self) -> None:
        """Its tunnel has ended. Its decisions hold it, and it holds them and the link: a circle of fifty objects that
        only the garbage collector would find, which stops everything for a second after a mass loss."""
        self.only = Decision(None, Reason.ONLY)
        self._decisions.clear()

    @property
    def label(self) -> str:
        """`node/NAME`, or `cluster/` and the first half of its instance id."""
        return f"{self.role}/{self.node or self.instance.hex()[:8]}"

    def chosen(self, reason: Reason) -> Decision:
        """The decision for this route; the same object for the same reason."""
        made = self._decisions.get(reason)
        if made is None:
            made = self._decisions[reason] = Decision(self.route, reason, self)
        return made


@dataclasses.dataclass(slots=True, eq=False)
class Decision:
    """Which route a request takes, and why. `route` and `candidate` are None together. Nobody changes one."""

    route: Route | None
    reason: Reason
    candidate: Candidate | None = None
    may_come: bool = False
    """No route now, but an agent is connected that may only be late with the answer to a ping: its session ends or
    answers within seconds."""
    why: str = dataclasses.field(init=False)
    """The reason as text: an enum's own is dear for a line of each request."""
    _field: bytes = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.why = self.reason.value
        label = "none" if self.candidate is None else self.candidate.label
        self._field = f"{FIELD}: {label}; reason={self.reason}".encode("ascii")

    def field_line(self, attempts: int) -> bytes:
        """The header field by which administrators are told."""
        return b"%b; attempts=%d\r\n" % (self._field, attempts) if attempts > 1 else self._field + b"\r\n"


class Asked(Protocol):
    """The class of a request, as far as its route depends on it (hub.proxy.classify.Kind)."""

    @property
    def is_mutation(self) -> bool: ...

    @property
    def stream_class(self) -> StreamClass: ...
