"""Sessions that say nothing (D4, P3, P7).

A change is not sent into a silence: it waits for the answer to a ping, so that a tunnel which turns out dead has not
swallowed it. A question is asked on the next route when its session stays silent behind it. Nothing waits for ever,
and nothing longer than its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from hub.proxy.limits import ProxyLimits
from hub.route import QUIET_S, Route
from proto.errors import Code

if TYPE_CHECKING:
    from hub.proxy.exchange import Exchange
    from hub.proxy.relay import Routes


SPEAKING_S: Final = 1.2
"""How long a session that is heard may owe the answer to a ping before a question takes the next route: where only the
way to the agent is dead its own pings and events still come, and a full way from it delays what it answers. With what
comes before the ping and between two looks a read waits 1.8 s, and two are promised (facts/security.md R4)."""

OVERTIME_S: Final = 0.25
"""How long the answer to a request may still be on its way when its caller's deadline has passed, besides a round trip:
the API server keeps the deadline too, and knows what became of the request."""
LATE_S: Final = 10.0
"""How long a request waits for a session whose ping is unanswered for too long, where there is no other: it may live
for so long while bulk moves (proto.liveness.BULK_GRACE)."""
WAY_BACK_S: Final = 0.5
"""The longest round trip that is waited for."""


class _Held(NamedTuple):
    link: Route
    since: float
    proceed: Callable[[bool], None]


class Silence:
    """Requests whose OPEN waits for a sign of life, and those whose answer has not begun."""

    def __init__(self, routes: Routes, limits: ProxyLimits, now: Callable[[], float]) -> None:
        self._routes = routes
        self._limits = limits
        self._now = now
        self._held: dict[Exchange, _Held] = {}
        self._asked: dict[Exchange, float] = {}
        self._since: dict[Exchange, float] = {}
        """From when on the answer of those that were asked again may be late: that does not begin the time anew."""
        self._stuck: dict[Exchange, tuple[int, float]] = {}
        """Those with a part of the body that waits for the cluster: the bytes before it, and since when it waits."""
        self._waiting: dict[Exchange, float] = {}
        """Those for which there is no session but late ones, and since when."""
        self._doubted: set[Exchange] = set()
        """Those of them behind whose OPEN a ping was seen to."""

    def must_hold(self, exchange: Exchange, link: Route) -> bool:
        """Whether the OPEN has to wait: a change, and nobody knows whether the session lives."""
        return exchange.kind.is_mutation and self._now() - link.last_received_at > QUIET_S

    def hold(self, exchange: Exchange, link: Route, proceed: Callable[[bool], None]) -> None:
        """Ping, and call `proceed` once: True when the session answered, False when another route must be tried."""
        held = self._held[exchange] = _Held(link, self._now(), proceed)
        link.probe(partial(self._settle, exchange, held))

    def wait(self, exchange: Exchange) -> None:
        """Have it opened when a session answers again; when none is left, or after LATE_S, it is told that none is."""
        self._waiting[exchange] = self._now()

    def asked(self, exchange: Exchange) -> None:
        """Its OPEN is on the way."""
        first = self._asked.get(exchange)
        self._asked[exchange] = self._now()
        if first is not None:
            self._since.setdefault(exchange, first)
            self._doubted.discard(exchange)

    def whole(self, exchange: Exchange) -> None:
        """The last byte of its body is on the way: only now can an answer be late."""
        if exchange in self._asked:
            self._asked[exchange] = self._now()
            self._since.pop(exchange, None)
            self._stuck.pop(exchange, None)

    def settled(self, exchange: Exchange) -> None:
        """Its answer has begun, or it has ended."""
        self._asked.pop(exchange, None)
        if self._since:  # these are empty while all is well
            self._since.pop(exchange, None)
        if self._stuck:
            self._stuck.pop(exchange, None)
        if self._doubted:
            self._doubted.discard(exchange)
        if self._held:
            self._held.pop(exchange, None)
        if self._waiting:
            self._waiting.pop(exchange, None)

    def look(self) -> None:
        """Called every tenth of a second or so."""
        now = self._now()
        patience = self._limits.probe_after_s + self._limits.mute_after_s
        for exchange, held in tuple(self._held.items()):
            if now >= exchange.deadline:
                exchange.relay.expire(exchange)
            elif now - held.since >= patience and self._has_other(exchange, held.link):
                self._settle(exchange, held, False)
        for exchange, since in tuple(self._waiting.items()):
            if now >= exchange.deadline:
                exchange.relay.expire(exchange)
                continue
            decision = self._routes.pick(exchange.cluster_uid, exchange.kind, without=exchange.tried)
            is_over = now - since >= LATE_S
            if decision.route is not None or not decision.may_come or is_over:
                self._waiting.pop(exchange, None)
                exchange.relay.open_late(exchange, may_wait=not is_over)
        silent: dict[Route, None] = {}  # in a run's own order, not by address: it can be repeated
        for exchange, asked_at in tuple(self._asked.items()):
            link = exchange.link
            if link is None or exchange not in self._asked:
                continue
            if now >= exchange.deadline:
                if now >= exchange.deadline + OVERTIME_S + min(link.rtt_s or 0.0, WAY_BACK_S):
                    exchange.relay.expire(exchange)
                continue
            if now - asked_at > self._limits.probe_after_s:
                is_silent = now - link.last_received_at > self._limits.probe_after_s
                if is_silent or exchange not in self._doubted:  # once also where other bytes come: see SPEAKING_S
                    silent[link] = None
                    if (link.unanswered_ping_at or now) >= asked_at:  # an older ping says nothing of this OPEN
                        self._doubted.add(exchange)
                if self._is_mute(link, now, is_silent) and exchange.may_move and self._has_other(exchange, link):
                    exchange.move()
                    continue
            if not exchange.kind.is_long_running and self._is_overdue(exchange, asked_at, now):
                exchange.give_up(Code.IDLE)
        for link in silent:
            if link.unanswered_ping_at is None and link.is_open:
                link.probe()

    def _settle(self, exchange: Exchange, held: _Held, is_alive: bool) -> None:
        if self._held.get(exchange) is held:
            del self._held[exchange]
            held.proceed(is_alive)

    def _is_overdue(self, exchange: Exchange, asked_at: float, now: float) -> bool:
        """Whether the answer should have begun by now, or the cluster have taken something more of the body."""
        if exchange.is_request_complete:
            since = self._since.get(exchange, asked_at)
        else:
            since = self._stuck_since(exchange, now)
        return now - since > self._limits.answer_timeout_s

    def _stuck_since(self, exchange: Exchange, now: float) -> float:
        """Since when the next bytes of the body wait; `now` when none do: its client is judged by hub.edge.pace."""
        stream = exchange.stream
        waiting = 0 if stream is None else stream.queued_bytes
        if not waiting:
            self._stuck.pop(exchange, None)
            return now
        before = exchange.bytes_in - waiting
        known = self._stuck.get(exchange)
        if known is None or known[0] != before:
            known = self._stuck[exchange] = before, now
        return known[1]

    def _is_mute(self, link: Route, now: float, is_silent: bool) -> bool:
        """It did not even answer a ping: a slow API server is no silent session, and neither is a long way to it."""
        pinged_at = link.unanswered_ping_at
        patience = max(self._limits.mute_after_s if is_silent else SPEAKING_S, 2 * (link.rtt_s or 0.0))
        return not link.is_open or (pinged_at is not None and now - pinged_at >= patience)

    def _has_other(self, exchange: Exchange, link: Route) -> bool:
        decision = self._routes.pick(exchange.cluster_uid, exchange.kind, without=(*exchange.tried, link))
        return decision.route is not None
