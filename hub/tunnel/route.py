"""Which of a cluster's tunnels serves a request: a pure decision over what the links say of themselves (D4, P7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

PING_UNANSWERED_S: Final = 5.0
"""P7: a session with a ping unanswered for this long is never chosen."""

PING_LATE_S: Final = 0.5
"""A tunnel with a ping unanswered for this long, and for three round trips, is not the first choice if another one
answers: two seconds, as it was, sent a second's requests more into a frozen agent."""


class Answering(Protocol):
    """What tells how quickly an agent answers."""

    @property
    def rtt_s(self) -> float | None: ...

    @property
    def unanswered_ping_at(self) -> float | None: ...


class Candidate(Answering, Protocol):
    """What the choice looks at (proto.aio.link.Link)."""

    @property
    def is_open(self) -> bool: ...

    @property
    def is_draining(self) -> bool: ...

    @property
    def last_received_at(self) -> float: ...

    @property
    def streams(self) -> int: ...

    @property
    def queued_bytes(self) -> int: ...


C = TypeVar("C", bound=Candidate)


def is_dead(link: Candidate, now: float) -> bool:
    """A ping has been unanswered for too long; whatever is sent now is likely lost."""
    return link.unanswered_ping_at is not None and now - link.unanswered_ping_at >= PING_UNANSWERED_S


def is_late(link: Answering, now: float) -> bool:
    """A ping has been unanswered for longer than its answer should take: not the first choice."""
    rtt_s = 1.0 if link.rtt_s is None else link.rtt_s
    pinged_at = link.unanswered_ping_at
    return pinged_at is not None and now - pinged_at > max(PING_LATE_S, 3 * rtt_s)


def choose(links: Iterable[C], now: float) -> C | None:
    """The healthiest: heard from lately, then little queued, few streams, short round trip."""
    usable = [link for link in links if link.is_open and not link.is_draining and not is_dead(link, now)]
    return min(usable, key=lambda link: _rank(link, now), default=None)


def _rank(link: Candidate, now: float) -> tuple[bool, int, int, float]:
    rtt_s = 1.0 if link.rtt_s is None else link.rtt_s
    return is_late(link, now), link.queued_bytes // 65_536, link.streams // 32, rtt_s
