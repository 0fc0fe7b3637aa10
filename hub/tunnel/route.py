"""Which of a cluster's tunnels serves a request: a pure decision over what the links say of themselves (D4, D5, P7).

The healthiest cluster agent first. Without one that answers, a node agent that may serve: control-plane nodes first,
then by name, so that all requests and all workers take the same one and its session stays warm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple, Protocol

from hub.auth.agents import ROLE_CLUSTER
from hub.route import QUIET_S, Asked, Candidate, Decision, Reason, Route
from proto.messages import StreamClass

PING_UNANSWERED_S: Final = 5.0
"""P7: a session with a ping unanswered for this long is never chosen."""

PING_LATE_S: Final = 0.5
"""A tunnel with a ping unanswered for this long, and for three round trips, is not the first choice if another one
answers: two seconds, as it was, sent a second's requests more into a frozen agent."""

ELSEWHERE_AFTER: Final = 2
"""A request that has tried so many routes takes an agent that it has not tried, if there is one: an agent that loses
its session again and again would use up the attempts that a question has (hub.proxy.replay), each on a new session.
A node agent then, if one answers: a process that was started anew looks like another agent."""

NOWHERE: Final = {reason: Decision(None, reason) for reason in Reason if reason.role == "none"}
"""The decisions that no route is taken."""
LATE: Final = Decision(None, Reason.NONE_ANSWERING, may_come=True)
"""The same where an agent may still answer: TCP repeats what a long way has lost, for seconds at times."""


class Answering(Protocol):
    """What tells how quickly an agent answers."""

    @property
    def rtt_s(self) -> float | None: ...

    @property
    def unanswered_ping_at(self) -> float | None: ...


class Question(NamedTuple):
    """The plainest request."""

    is_mutation: bool = False
    stream_class: StreamClass = StreamClass.NORMAL


QUESTION: Final = Question()


def is_dead(link: Answering, now: float) -> bool:
    """A ping has been unanswered for too long; whatever is sent now is likely lost."""
    return link.unanswered_ping_at is not None and now - link.unanswered_ping_at >= PING_UNANSWERED_S


def is_late(link: Answering, now: float) -> bool:
    """A ping has been unanswered for longer than its answer should take: not the first choice."""
    rtt_s = 1.0 if link.rtt_s is None else link.rtt_s
    pinged_at = link.unanswered_ping_at
    return pinged_at is not None and now - pinged_at > max(PING_LATE_S, 3 * rtt_s)


def is_silent(link: Route, now: float) -> bool:
    """Late, and nothing else is heard either: no answer to a ping that waits behind a download."""
    return is_late(link, now) and now - link.last_received_at > PING_LATE_S


def decide(candidates: Collection[Candidate], asked: Asked, now: float, tried: Collection[Route] = ()) -> Decision:
    """The route for a request that has tried some already. The order of `candidates` does not matter."""
    there = [each for each in candidates if _may_serve(each) and (not tried or each.route not in tried)]
    usable = [each for each in there if each.route.unanswered_ping_at is None or not is_dead(each.route, now)]
    if not usable:
        return LATE if there else NOWHERE[_why_none(candidates, tried)]
    if len(tried) >= ELSEWHERE_AFTER:
        agents = {_agent(route) for route in tried}
        usable = [each for each in usable if _agent(each.route) not in agents] or usable
        usable = [each for each in usable if each.role != ROLE_CLUSTER and not is_late(each.route, now)] or usable
    chosen = min(usable, key=lambda each: _rank(each, asked, now))
    return chosen.chosen(_why(chosen, candidates, now, tried))


def is_reachable(candidates: Iterable[Candidate], now: float) -> bool:
    """Whether `decide` would find a route for a request that has tried none. A tenth of its work: a scrape asks of
    every cluster."""
    for each in candidates:  # a loop: the first one is enough, in most cases
        if _may_serve(each) and (each.route.unanswered_ping_at is None or not is_dead(each.route, now)):
            return True
    return False


def _agent(route: Route) -> str:
    """The same for every session of an agent's instance, in whichever process."""
    return route.name.partition("@")[0]


def _may_serve(candidate: Candidate) -> bool:
    return candidate.is_eligible and candidate.route.may_open


def _rank(candidate: Candidate, asked: Asked, now: float) -> tuple[Any, ...]:
    """Smaller is better. One that we drain ourselves serves until its replacement is there."""
    route = candidate.route
    late = silent = False
    if route.unanswered_ping_at is not None:
        late, silent = is_late(route, now), is_silent(route, now)
    if candidate.role != ROLE_CLUSTER:  # in the same order for everybody: load does not move them
        order = not candidate.is_control_plane, candidate.node, candidate.is_remote, candidate.instance
        return silent, True, route.is_draining, late, order
    is_quiet = asked.is_mutation and now - route.last_received_at > QUIET_S
    load = _load(route, asked.stream_class)
    return silent, False, route.is_draining, late, is_quiet, candidate.is_remote, load, candidate.instance


def _load(route: Route, cls: StreamClass) -> tuple[float, ...]:
    """Little queued, few streams, short round trip; a keystroke minds the way more than the company."""
    rtt_s = 1.0 if route.rtt_s is None else route.rtt_s
    if cls is StreamClass.INTERACTIVE:
        return route.queued_bytes // 16_384, rtt_s // 0.005, route.streams // 32, rtt_s
    return route.queued_bytes // 65_536, route.streams // 32, rtt_s


def _why(chosen: Candidate, candidates: Iterable[Candidate], now: float, tried: Collection[Route]) -> Reason:
    rivals = [each.route for each in candidates if each.role == ROLE_CLUSTER and each is not chosen]
    is_late_there = any([route.unanswered_ping_at is not None and is_late(route, now) for route in rivals])
    if chosen.role != ROLE_CLUSTER:
        if tried:
            return Reason.FALLBACK_RETRY
        if not rivals:
            return Reason.FALLBACK_ABSENT
        return Reason.FALLBACK_SILENT if is_late_there else Reason.FALLBACK_DRAINING
    if tried:
        return Reason.RETRY
    if not rivals:
        return Reason.ONLY
    if is_late_there:
        return Reason.OTHER_LATE
    return Reason.OTHER_DRAINING if any([route.is_draining for route in rivals]) else Reason.HEALTHIEST


def _why_none(candidates: Collection[Candidate], tried: Collection[Route]) -> Reason:
    if not candidates:
        return Reason.NONE_LEFT if tried else Reason.NONE_CONNECTED
    eligible = [each for each in candidates if each.is_eligible]
    if tried:
        return Reason.NONE_LEFT
    return Reason.NONE_ANSWERING if eligible else Reason.NONE_ELIGIBLE
