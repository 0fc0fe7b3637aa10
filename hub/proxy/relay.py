"""The request path from a parsed head to an open stream, top to bottom; and the books about what is under way."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec

from hub import errors, status
from hub.auth.bearer import Bearer
from hub.auth.grants import EVERY_CLUSTER, Access
from hub.auth.impersonate import USER, identity
from hub.auth.principal import Principal
from hub.edge.application import Front
from hub.edge.framing import Request
from hub.endings import Endings
from hub.memory import buffer_budget
from hub.metrics import Metrics
from hub.proxy import replay
from hub.proxy.accesslog import AccessLog, acting, safe_path
from hub.proxy.classify import classify
from hub.proxy.compressed import Turns
from hub.proxy.exchange import Exchange
from hub.proxy.fields import Sorted, sort_fields
from hub.proxy.held import Holding
from hub.proxy.limits import Impatience, InFlight, ProxyLimits
from hub.proxy.path import split
from hub.proxy.silence import Silence
from hub.proxy.unread import Unread
from hub.proxy.upgrade import UpgradeExchange
from hub.route import Asked, Decision, Route
from proto import errors as wire
from proto.aio import tasks
from proto.aio.busypoll import Leg, never
from proto.compression import PLAINLY, Histories
from proto.directlog import DirectLog
from proto.errors import Code
from proto.messages import HttpRequest, StreamKind
from proto.window import Budget

logger = logging.getLogger(__name__)

CLIENT_GONE: Final = 499
"""Status in metrics and log for a request whose client left before the answer (nginx's convention); never sent."""

_HTTP: Final = StreamKind.HTTP


class Authenticator(Protocol):
    def authenticate(self, bearer: Bearer) -> Principal: ...


class Authorizer(Protocol):
    def access(self, principal: Principal, cluster_name: str) -> Access | None: ...


class Routes(Protocol):
    """The live tunnels (hub.tunnel.registry.Registry)."""

    def pick(self, cluster_uid: str, asked: Asked, *, without: tuple[Route, ...] = ()) -> Decision: ...

    def lost_at(self, cluster_uid: str) -> float | None: ...


class Relay:
    """Implements hub.edge.application.Application. `now` is the clock of the links."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        routes: Routes,
        metrics: Metrics,
        limits: ProxyLimits | None = None,
        budget: Budget | None = None,
        histories: Histories | None = None,
        now: Callable[[], float] = time.monotonic,
        direct_log: DirectLog | None = None,
        clients: Leg | None = None,
    ) -> None:
        self.metrics = metrics
        self.limits = limits or ProxyLimits()
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._routes = routes
        self._now = now
        self._clients = clients or never()
        self._in_flight = InFlight(self.limits)
        self._impatience = Impatience(self.limits)
        self._log = AccessLog(now, self.limits.malformed_lines_per_s, direct_log)
        self._live: dict[Exchange, None] = {}
        """In the order in which they began, which is the order in which they are cut: a run can be repeated."""
        metrics.in_flight.set_function(self._live.__len__)
        budget = budget or Budget(buffer_budget())
        self._budget = budget
        self._unread = Unread(budget)
        self.histories = histories or Histories(0)
        self.turns = Turns(lambda call: asyncio.get_running_loop().call_soon(call))
        metrics.compressed_bodies.set_function(lambda: self.histories.bodies)
        self.compressed_wire, self.compressed_plain = metrics.compressed("wire"), metrics.compressed("plain")
        self._silence = Silence(routes, self.limits, now)
        self.holding = Holding(now)
        self.endings = Endings(now)
        self.kept = replay.KeptBytes(budget.limit)
        self._id_prefix = secrets.token_hex(4)
        self._ids = itertools.count(1)
        self._tasks = tasks.TaskGroup("relay")

    def start(self) -> None:
        """Begin the sweep that probes silent sessions."""
        self._tasks.spawn(self._sweep(), name="sweep")

    async def aclose(self) -> None:
        """Break what is left and end the sweep."""
        for exchange in tuple(self._live):
            exchange.cut()
        await self._tasks.aclose()
        self._log.flush()

    # -- hub.edge.application.Application

    def begin(self, front: Front, request: Request) -> Exchange | None:
        exchange = (UpgradeExchange if request.upgrade else Exchange)(self, front, request, self._new_id())
        self._live[exchange] = None
        self._clients.arrived(0)
        try:
            self._admit(exchange)
            self._open(exchange)
        except errors.HubError as error:
            exchange.fail(error)
        except Exception:
            logger.exception("request failed", extra={"request_id": exchange.request_id})
            exchange.fail(errors.InternalError())
        return None if exchange.has_ended else exchange

    def refused(self, peer: str, error: errors.HubError, request: Request | None) -> str:
        request_id = self._new_id()
        self.metrics.refused(_reason(error))
        self._log.malformed(request_id, peer, error)
        return request_id

    # -- for the hub's owner

    @property
    def live(self) -> int:
        """Requests under way."""
        return len(self._live)

    def cut(self, *, token_id: str | None = None, cluster_uid: str | None = None, user: str | None = None) -> int:
        """End every exchange of a token, of a cluster or of a user now (revocation); how many."""
        doomed = [
            exchange
            for exchange in self._live
            if (token_id is not None and exchange.token_id == token_id)
            or (cluster_uid is not None and exchange.cluster_uid == cluster_uid)
            or (user is not None and exchange.user == user)
        ]
        why = errors.PermissionDenied(errors.NO_CLUSTER) if token_id is None else errors.Unauthenticated()
        for exchange in doomed:
            exchange.cut(why)
        return len(doomed)

    def recheck(self, cluster_uid: str = EVERY_CLUSTER) -> int:
        """End every exchange, of one cluster when given, that would not be begun today with the rights it has (a grant
        was removed); how many."""
        doomed = [
            exchange
            for exchange in self._live  # a deleted cluster has a hundred grants, its hub ten thousand exchanges
            if cluster_uid in (EVERY_CLUSTER, exchange.cluster_uid) and not self._still_allowed(exchange)
        ]
        for exchange in doomed:
            exchange.cut(errors.PermissionDenied(errors.NO_CLUSTER))
        return len(doomed)

    def drain(self, link: Route | None = None) -> None:
        """Let watches end between two events: all, or those of an agent that goes away, which resume elsewhere.
        Everything else may finish."""
        for owner in tuple(self._live) if link is None else link.owners():
            if isinstance(owner, Exchange):
                owner.cut_soon()

    def relieve(self) -> int:
        """Cut answers that nobody reads while the buffer budget is nearly used up; how many."""
        doomed = self._unread.look()
        for _ in range(doomed):
            self.metrics.broken("unread")
        return doomed

    # -- for exchanges

    def reroute(self, exchange: Exchange, why: str) -> bool:
        """Ask on the next route at once, for a request that may be repeated; whether there is one. `why`: `refused`,
        `unreachable`, `lost` or `silent`."""
        if exchange.link is not None:
            exchange.tried += (exchange.link,)
        try:
            self._open(exchange)
        except errors.HubError:
            return False
        self.metrics.rerouted(why)
        return True

    def lost(self, exchange: Exchange, code: Code, *, is_delivered: bool) -> errors.HubError:
        """The error for a stream that ended with `code` before the head."""
        if exchange.kind.timeout_s and code in replay.ELSEWHERE and self._now() >= exchange.deadline:
            return status.deadline_passed(is_mutation=exchange.kind.is_mutation, is_delivered=is_delivered)
        fate = status.Fate(
            is_mutation=exchange.kind.is_mutation,
            is_delivered=is_delivered,
            is_recent_loss=code is Code.SESSION_LOST or self._is_recent_loss(exchange.cluster_uid),
            is_busy=exchange.link is not None and exchange.link.is_open and not exchange.link.is_draining,
        )
        return status.stream_lost(code, fate)

    def cut_off(self, exchange: Exchange, why: errors.HubError | None) -> errors.HubError:
        """The error for one that the hub ends before the head."""
        is_delivered = exchange.stream is not None and exchange.stream.was_sent
        if why is None:
            return self.lost(exchange, Code.CANCELLED, is_delivered=is_delivered)
        return status.right_ended(why, is_mutation=exchange.kind.is_mutation, is_delivered=is_delivered)

    def expire(self, exchange: Exchange) -> None:
        """Its caller's deadline has passed without an answer."""
        is_delivered = exchange.stream is not None and exchange.stream.was_sent
        error = status.deadline_passed(is_mutation=exchange.kind.is_mutation, is_delivered=is_delivered)
        exchange.fail(error, outcome="deadline")

    def distrust(self, exchange: Exchange, text: str) -> None:
        """The agent sent something that makes no sense."""
        logger.warning(
            "agent answered nonsense",
            extra={"cluster": exchange.cluster, "request_id": exchange.request_id, "reason": text},
        )

    def failed(self, exchange: Exchange, error: errors.HubError, *, is_ours: bool) -> None:
        """An exchange ended with a Status. `is_ours`: the hub's own decision, not that of an agent."""
        reason = _reason(error) if is_ours else ""
        if reason:
            self.metrics.refused(reason)
        elif isinstance(error, (errors.ClusterUnavailable, errors.Timeout)) and exchange.first_byte_at is None:
            self.metrics.unanswered(exchange.cluster)

    def answering(self, exchange: Exchange) -> None:
        """The response head has arrived."""
        self._silence.settled(exchange)
        exchange.first_byte_at = self._now()

    def left(self, exchange: Exchange) -> bool:
        """The client has gone before its answer was whole. Whether that counts against its user."""
        return exchange.is_admitted and self._impatience.left(exchange.user, exchange.cluster_uid, self._now())

    def not_left(self, exchange: Exchange) -> None:
        """What counted as `left` had come to its end after all."""
        self._impatience.stayed(exchange.user, exchange.cluster_uid)

    def charge(self, exchange: Exchange, size: int) -> None:
        """The exchange holds so many bytes that no session counts; 0: none any more."""
        self._unread.charge(exchange, size)

    def asked_whole(self, exchange: Exchange) -> None:
        """The request's body has been read whole."""
        self._silence.whole(exchange)

    def ended(self, exchange: Exchange) -> None:
        """The books for an exchange; called once for each."""
        self._live.pop(exchange, None)
        self._silence.settled(exchange)
        kind, request = exchange.kind, exchange.request
        if exchange.is_admitted:
            self._leave(exchange)
        code = exchange.code or CLIENT_GONE
        if code != CLIENT_GONE:
            self._clients.sent(exchange.bytes_out)
        seconds = max(self._now() - request.received_at, 0.0)
        self.metrics.answered(
            exchange.cluster if exchange.cluster_uid else "", kind.verb, code, None if kind.is_long_running else seconds
        )
        if exchange.bytes_in:
            self.metrics.request_bytes.inc(exchange.bytes_in)
        if exchange.bytes_out:
            self.metrics.response_bytes.inc(exchange.bytes_out)
        self._write_log(exchange, code, seconds)

    # -- the path of a request

    def _admit(self, exchange: Exchange) -> None:
        """Who, where, whether: fills the exchange, raises HubError. Nothing is sent before this returns."""
        request = exchange.request
        place = split(request.target)
        fields: Sorted | None = request.memo.get("fields")
        if fields is None:
            fields = request.memo["fields"] = sort_fields(request)
        principal = self._authenticator.authenticate(fields.bearer)
        exchange.principal = principal
        exchange.user, exchange.token_id = principal.user, principal.token_id
        access = self._authorizer.access(principal, place.cluster)
        if access is None:
            raise errors.PermissionDenied(errors.NO_CLUSTER)
        exchange.access, exchange.claims = access, fields.claims
        exchange.cluster, exchange.cluster_uid = access.cluster_name, access.cluster_uid
        exchange.kind = kind = classify(request.method, place.rest, is_upgrade=bool(request.upgrade))
        if kind.timeout_s:
            exchange.deadline = request.received_at + kind.timeout_s
        who = identity(principal, access, fields.claims, exchange.request_id)
        if fields.claims:
            exchange.as_user = who[0][1].decode("ascii") if who[0][0] == USER else ""
        headers = [*fields.forwarded, *who]
        if kind.verb == "watch":
            # As apiserver, which compresses no watch but the first burst of some: that would hide where events end.
            headers = [pair for pair in headers if pair[0] != b"accept-encoding"]
        if fields.subprotocols:
            exchange.offered = fields.subprotocols
            headers.append((b"sec-websocket-protocol", b", ".join(fields.subprotocols)))
        if request.length > 0:
            headers.append((b"content-length", b"%d" % request.length))
        if kind.verb == "proxy":
            exchange.front.unhurried()
        else:
            exchange.limit = None if request.upgrade else self.limits.body_bytes_max
            if exchange.limit is not None and request.length > exchange.limit:
                raise errors.TooLarge
        self._impatience.check(principal.user, access.cluster_uid, self._now())
        self._in_flight.enter(principal.user, access.cluster_uid, is_long=kind.is_long_running)
        exchange.is_admitted = True
        exchange.opening = HttpRequest(
            method=request.method.decode("ascii"), path=place.rest, headers=tuple(headers), upgrade=request.upgrade
        )

    def open_late(self, exchange: Exchange, *, may_wait: bool = True) -> bool:
        """What it waited for is there, or will not be. False when it has failed."""
        try:
            self._open(exchange, may_wait=may_wait)
        except errors.HubError as error:
            exchange.fail(error)
            return False
        return True

    def _open(self, exchange: Exchange, *, may_wait: bool = True) -> None:
        """Choose a tunnel and send the OPEN, or hold it until the tunnel gives a sign of life. Raises HubError if no
        tunnel takes it, and when the caller's deadline has passed."""
        if exchange.kind.timeout_s and self._now() >= exchange.deadline:
            raise status.deadline_passed(is_mutation=exchange.kind.is_mutation, is_delivered=False)
        opening = exchange.opening
        assert opening is not None
        is_busy = False
        while True:
            decision = self._routes.pick(exchange.cluster_uid, exchange.kind, without=exchange.tried)
            link = decision.route
            if link is None:
                exchange.decision = exchange.decision or decision
                if decision.may_come and may_wait:
                    self._silence.wait(exchange)
                    return
                break
            exchange.link, exchange.decision = link, decision
            opening = self._with_permission(exchange, opening, link)
            if self._silence.must_hold(exchange, link):
                self._silence.hold(exchange, link, partial(self._proceed, exchange, link))
                return
            try:
                stream = link.open(
                    opening,
                    exchange,
                    kind=_HTTP,
                    cls=exchange.kind.stream_class,
                    end=exchange.is_request_complete and not exchange.has_body,
                    is_long=exchange.kind.verb == "list",
                )
            except (wire.SessionDraining, wire.SessionLost, wire.TooManyStreams) as refused:
                is_busy = is_busy or isinstance(refused, wire.TooManyStreams)
                exchange.tried += (link,)
                continue
            except wire.MessageTooBig:
                raise errors.HeadTooLarge from None
            exchange.front.be_frugal(self._budget.is_crowded)
            self.metrics.routed(decision.reason)
            self._silence.asked(exchange)
            exchange.opened(stream)
            return
        if is_busy:
            raise errors.TooManyRequests("the cluster's tunnels have too many requests under way")
        raise status.no_tunnel(exchange.cluster, is_recent_loss=self._is_recent_loss(exchange.cluster_uid))

    def _with_permission(self, exchange: Exchange, opening: HttpRequest, link: Route) -> HttpRequest:
        """Let the agent compress the answer only while there is room for what we must remember of it."""
        if not link.compresses or (self.histories.has_room and not opening.ext):
            return opening
        exchange.opening = msgspec.structs.replace(opening, ext={} if self.histories.has_room else PLAINLY)
        return exchange.opening

    def _proceed(self, exchange: Exchange, link: Route, is_alive: bool) -> None:
        """The tunnel that a change was held for has answered, or another one is to be tried."""
        if not is_alive:
            exchange.tried += (link,)
        if self.open_late(exchange) and not is_alive:
            self.metrics.rerouted("held")

    # -- internals

    def _new_id(self) -> str:
        return self._id_prefix + next(self._ids).to_bytes(6, "big").hex()

    def _leave(self, exchange: Exchange) -> None:
        """Give the place back; an answer that its client has not read still takes memory, so it keeps its place."""
        user, cluster, is_long = exchange.user, exchange.cluster_uid, exchange.kind.is_long_running
        if exchange.front.is_writable:
            self._in_flight.leave(user, cluster, is_long=is_long)
        else:
            self._unread.keep(exchange.front, lambda: self._in_flight.leave(user, cluster, is_long=is_long))

    def _still_allowed(self, exchange: Exchange) -> bool:
        principal, before = exchange.principal, exchange.access
        if principal is None or before is None:
            return True
        access = self._authorizer.access(principal, exchange.cluster)
        if access is None or access.cluster_uid != before.cluster_uid:
            return False
        if not exchange.claims:
            return access.is_admin or not before.is_admin
        try:
            identity(principal, access, exchange.claims, exchange.request_id)
        except errors.HubError:
            return False
        return True

    def _is_recent_loss(self, cluster_uid: str) -> bool:
        lost_at = self._routes.lost_at(cluster_uid)
        return lost_at is not None and self._now() - lost_at < status.RECENTLY_LOST_S

    def _write_log(self, exchange: Exchange, code: int, seconds: float) -> None:
        request = exchange.request
        first = exchange.first_byte_at
        fields: dict[str, object] = {
            "request_id": exchange.request_id,
            "peer": request.peer,
            "user": exchange.user,
            "token_id": exchange.token_id,
            "cluster": exchange.cluster,
            "verb": exchange.kind.verb,
            "method": request.method.decode("ascii"),
            "path": safe_path(request),
            "status": code,
            "outcome": exchange.outcome,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            "seconds": _microseconds(seconds),
            "first_byte_s": None if first is None else _microseconds(first - request.received_at),
            "route": exchange.link.name if exchange.link is not None else "",
            "route_reason": exchange.decision.why if exchange.decision is not None else "",
            "attempts": exchange.attempts,
        }
        if exchange.claims:
            fields.update(acting(exchange.claims, exchange.as_user))
        self._log.request(fields)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.limits.sweep_interval_s)
            self._impatience.forget(self._now())
            self._silence.look()
            self.holding.look()
            self.relieve()


def _microseconds(seconds: float) -> float:
    """Rounded to them. `round` goes by way of a text, which costs as much as a dozen calls."""
    return int(seconds * 1e6 + 0.5) / 1e6


_REASONS: Final = (
    (errors.Unauthenticated, "unauthenticated"),
    (errors.PermissionDenied, "forbidden"),
    (errors.TooManyRequests, "overloaded"),
    (errors.TooLarge, "too-large"),
    (errors.HeadTooLarge, "too-large"),
    (errors.RequestTimeout, "slow"),
    (errors.VersionNotSupported, "version"),
    (errors.MethodNotAllowed, "method"),
    (errors.NotFound, "not-found"),
    (errors.Timeout, ""),
    (errors.ClusterUnavailable, ""),
)


def _reason(error: errors.HubError) -> str:
    """Metric label of a refusal; '' for what is not one (the cluster's unavailability)."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "malformed" if error.http_status < 500 or error.http_status == 501 else ""
