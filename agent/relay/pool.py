"""Warm TLS connections to the kube-apiserver, and the queue of exchanges that wait for one."""

import asyncio
import logging
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final, Protocol

from agent.relay import resumption
from agent.relay.addresses import Address, Addresses
from agent.relay.connection import LOOKED_AT_S, KubeConnection
from agent.relay.endpoint import Endpoint, KubeTrust
from proto.aio import dial, tasks
from proto.aio.busypoll import Leg, never
from proto.errors import Code

logger = logging.getLogger(__name__)

ANY_IDLE: Final = float("inf")
"""`max_idle` of a request that may be repeated."""
MUTATION_IDLE_MAX: Final = 10.0
"""Seconds that a connection may have been idle and still take a mutation. A mutation on a connection that turns out to
be closed has an unknown outcome (P3), so it only gets one that was alive a moment ago, or a new one."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool."""

    connections: int = 3072
    """Open connections, all states. Every watch, log follow and exec holds one for its life; the hub admits at most
    2,500 of those to a cluster, so that short requests always find room."""
    dials: int = 16
    """Dials at a time: a burst of requests must not become a burst of TLS handshakes on the API server."""
    queue: int = 1024
    """Exchanges that wait for a connection; the next one ends with REFUSED: nothing was sent."""
    queue_timeout: float = 10.0
    """Seconds an exchange waits for a connection."""
    dial_timeout: float = 5.0
    """Seconds for name, TCP and TLS together (facts/tunnels.md §7.3)."""
    idle_timeout: float = 55.0
    """Seconds an idle connection is kept; the API server closes it after 90 s, common load balancers after 60 s."""
    idle_connections: int = 64
    """Idle connections kept; a burst's surplus is closed at once."""


class Waiter(Protocol):
    """An exchange in need of a connection."""

    def on_connection(self, connection: KubeConnection) -> None:
        """Yours until the response is complete or the connection lost."""

    def on_no_connection(self, code: Code, text: str) -> None:
        """There will be none; nothing was sent."""


class DialCounts(Protocol):
    """What the pool reports for the metrics."""

    dials: int
    dials_failed: int
    is_around_service: bool


class Pool:
    """One pool for one API server. `acquire` answers at once when a warm connection is there."""

    def __init__(
        self,
        endpoint: Endpoint,
        trust: KubeTrust,
        limits: PoolLimits,
        *,
        owner: tasks.TaskGroup,
        counts: DialCounts,
        addresses: Addresses | None = None,
        leg: Leg | None = None,
    ) -> None:
        """`addresses`: where to dial; the endpoint's own address when None. `leg`: whether the loop stays awake for the
        API server's answers."""
        self._endpoint = endpoint
        self._addresses = addresses or Addresses(endpoint, None, clock=time.monotonic)
        self._trust = trust
        self._leg = leg or never()
        self._limits = limits
        self._tasks = owner
        self._counts = counts
        self._idle: list[KubeConnection] = []
        self._connections: set[KubeConnection] = set()
        self._waiting: dict[Waiter, float] = {}
        self._dialing = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._context: ssl.SSLContext | None = None
        self._is_closed = False

    @property
    def open_connections(self) -> int:
        """Connections in any state."""
        return len(self._connections)

    @property
    def idle_connections(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Exchanges without a connection."""
        return len(self._waiting)

    def acquire(self, waiter: Waiter, *, max_idle: float) -> None:
        """Give `waiter` a connection now or later, by its callbacks. `max_idle` in seconds; 0 demands a fresh one."""
        now = time.monotonic()
        connection = self._take_idle(now, max_idle)
        if connection is not None:
            waiter.on_connection(connection)
            return
        if self._is_closed or len(self._waiting) >= self._limits.queue:
            waiter.on_no_connection(Code.REFUSED, "the agent has too many requests waiting for the API server")
            return
        self._waiting[waiter] = now
        self._arm_sweep()
        self._dial_as_needed()

    def cancel(self, waiter: Waiter) -> None:
        """`waiter` no longer wants a connection."""
        self._waiting.pop(waiter, None)

    def retire_idle(self) -> None:
        """Close what is idle: the trust that it was made under has changed."""
        for connection in tuple(self._idle):
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        """Drop every connection. The exchanges were reset by the end of their session."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for waiter in tuple(self._waiting):
            self._refuse(waiter, Code.CLOSED, "the agent is shutting down")
        for connection in tuple(self._connections):
            connection.abort()

    # ConnectionOwner

    def on_idle(self, connection: KubeConnection) -> None:
        """A connection finished its exchange: the oldest waiter takes it, or it is kept warm."""
        waiter = next(iter(self._waiting), None)
        if connection.context is not self._context:  # the trust changed while it worked; `on_lost` dials for who waits
            connection.abort()
        elif waiter is not None:
            del self._waiting[waiter]
            waiter.on_connection(connection)
        elif self._is_closed or len(self._idle) >= self._limits.idle_connections:
            connection.abort()
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def on_lost(self, connection: KubeConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._dial_as_needed()

    # Dialing

    def _take_idle(self, now: float, max_idle: float) -> KubeConnection | None:
        """The connection used last: the others may then grow old and be closed."""
        while self._idle:
            connection = self._idle[-1]
            if now - connection.idle_since > max_idle:
                return None
            self._idle.pop()
            if connection.is_open:
                return connection
        return None

    def _dial_as_needed(self) -> None:
        room = min(
            len(self._waiting) - self._dialing,
            self._limits.dials - self._dialing,
            self._limits.connections - len(self._connections) - self._dialing,
        )
        for _ in range(room if not self._is_closed else 0):
            self._dialing += 1
            self._tasks.spawn(self._dial(), name="kube dial")

    async def _dial(self) -> None:
        """Make one connection; a failure ends every exchange that was waiting when the dial began, a connection that
        was closed at once the oldest of them."""
        waiting = tuple(self._waiting)
        try:
            connection = await self._connect()
        except (OSError, UnicodeError) as error:  # TimeoutError, gaierror and SSLError are OSErrors
            self._counts.dials_failed += 1
            self._dialing -= 1
            ended = [waiter for waiter in waiting if waiter in self._waiting]
            if isinstance(error, dial.ClosedAtOnceError):
                del ended[1:]  # one of several servers behind an address may close, and the other dials go well
            code, text = _explain(error)
            for waiter in ended:
                self._refuse(waiter, code, text)
            self._dial_as_needed()
        except BaseException:
            self._dialing -= 1
            raise
        else:
            self._counts.dials += 1
            self._dialing -= 1
            self._take(connection)
            self._dial_as_needed()

    async def _connect(self) -> KubeConnection:
        """Raises OSError, UnicodeError of the failed step."""
        context = self._fresh_context()
        offers = resumption.offers(context)
        try:
            async with asyncio.timeout(self._limits.dial_timeout):
                return await self._reach_one(context)
        except TimeoutError:
            if resumption.offers(context) != offers:
                self._pause_resuming(context, "silence")
            raise

    async def _reach_one(self, context: ssl.SSLContext) -> KubeConnection:
        addresses = self._addresses
        candidates = addresses.candidates()
        if len(candidates) == 1:
            address, connection = candidates[0], await self._reach(candidates[0], context)
        else:
            if addresses.is_probe_due():
                self._tasks.spawn(self._probe(context), name="kube service")
            address, connection = await dial.first(candidates, lambda each: self._reach(each, context), self._tasks)
        self._answered(address)
        return connection

    async def _reach(self, address: Address, context: ssl.SSLContext) -> KubeConnection:
        """Raises OSError, UnicodeError. A handshake that took up a session and went wrong is done again without."""
        offers = resumption.offers(context)
        try:
            connection = await self._open(address, context)
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
            if resumption.offers(context) == offers or isinstance(error, ssl.SSLCertVerificationError):
                raise
            self._pause_resuming(context, type(error).__name__)
            connection = await self._open(address, context)
        if not connection.is_open:  # it has heard of that, and will not again
            raise dial.ClosedAtOnceError
        connection.context = context
        return connection

    async def _open(self, address: Address, context: ssl.SSLContext) -> KubeConnection:
        """Whichever address it is, the certificate is for the same name."""
        host, port = address
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: KubeConnection(self, self._leg),
            host,
            port,
            ssl=context,
            server_hostname=self._endpoint.server_name,
            ssl_shutdown_timeout=2.0,
        )
        return connection

    def _pause_resuming(self, context: ssl.SSLContext, reason: str) -> None:
        logger.warning(
            "a TLS handshake that took up a session went wrong: none does for ten minutes", extra={"reason": reason}
        )
        resumption.pause(context)

    async def _probe(self, context: ssl.SSLContext) -> None:
        """Whether the Service is a way again; what it gives is kept for the next request."""
        service = self._addresses.service
        try:
            async with asyncio.timeout(self._limits.dial_timeout):
                connection = await self._reach(service, context)
        except (OSError, UnicodeError) as exc:
            logger.debug("the API server's Service is still no way to it", extra={"error": type(exc).__name__})
            return
        self._answered(service)
        self._take(connection)

    def _take(self, connection: KubeConnection) -> None:
        self._connections.add(connection)
        self._arm_sweep()
        self.on_idle(connection)

    def _answered(self, address: Address) -> None:
        self._addresses.worked(address)
        self._counts.is_around_service = self._addresses.is_around_service

    def _fresh_context(self) -> ssl.SSLContext:
        context = self._trust.context()
        if context is not self._context and self._context is not None:
            logger.info("the API server's CA changed")
            self.retire_idle()
        self._context = context
        return context

    def _refuse(self, waiter: Waiter, code: Code, text: str) -> None:
        self._waiting.pop(waiter, None)
        waiter.on_no_connection(code, text)

    # Time

    def _arm_sweep(self) -> None:
        if self._sweep is None and not self._is_closed:
            self._sweep = asyncio.get_running_loop().call_later(LOOKED_AT_S, self._run_sweep)

    def _run_sweep(self) -> None:
        """Once a second while there is anything: end what waited or idled too long, and what nobody hears any more."""
        self._sweep = None
        try:
            self._look(time.monotonic())
        finally:
            if self._waiting or self._connections:
                self._arm_sweep()

    def _look(self, now: float) -> None:
        limits = self._limits
        for waiter, since in tuple(self._waiting.items()):
            if now - since < limits.queue_timeout:
                break
            is_full = len(self._connections) >= limits.connections
            code = Code.REFUSED if is_full else Code.DIAL_TIMEOUT
            self._refuse(waiter, code, "no connection to the API server became free in time")
        for connection in tuple(self._idle):
            if now - connection.idle_since < limits.idle_timeout:
                break
            connection.abort()
            self._idle.remove(connection)
        for connection in tuple(self._connections):
            connection.look(now)


def _explain(error: OSError | UnicodeError) -> tuple[Code, str]:
    """What a dial can raise, as a code of the wire: the only place where library errors become codes."""
    if isinstance(error, socket.gaierror | UnicodeError):  # the latter for labels that IDNA cannot encode
        return Code.DIAL_DNS, "the API server's name does not resolve"
    if isinstance(error, dial.ClosedAtOnceError):
        return Code.DIAL_UNREACHABLE, "the API server closed the connection at once"
    if isinstance(error, TimeoutError):
        return Code.DIAL_TIMEOUT, "the API server did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return Code.DIAL_REFUSED, "the API server refused the connection"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Code.DIAL_UNREACHABLE, f"the API server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return Code.DIAL_UNREACHABLE, f"the TLS handshake with the API server failed: {error.reason}"
    return Code.DIAL_UNREACHABLE, f"the API server cannot be reached: {error.strerror or error}"
