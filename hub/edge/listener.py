"""Listening sockets with an accept loop of our own.

asyncio's loop accepts without any bound, and when descriptors run out it logs once per backlog entry (facts/security.md
§0.7, cpython#151615). Here accepting pauses before the limit is reached, as many handshakes are under way as the loop
bears (hub.edge.admission), and an accept error is logged at most once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import resource
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from hub.edge.accepted import Accepted
from hub.edge.admission import Handshakes, Waiting, Window
from hub.edge.connection import EdgeConnection
from hub.edge.frugality import UNSENT_MAX_BYTES
from hub.edge.greeting import accept_tls
from hub.edge.limits import EdgeLimits
from hub.edge.synfilter import LAST_ACK_S, ignore_syns
from proto.aio import tasks
from proto.aio.transport import address_text

logger = logging.getLogger(__name__)

_ACCEPTS_PER_TURN: Final = 512
"""Accepts in one turn of the loop, 10 ms, so that a storm does not starve the streams."""

_DESCRIPTOR_RESERVE: Final = 128
"""Left for the store, the metrics listener, log files and the standard streams."""

_RETRY_S: Final = 0.1
_LOOK_S: Final = 0.05
"""How often is looked whether one has spoken of those who may not be greeted before."""

_OPTIONS: Final = [
    (int(level), int(getattr(socket, name)), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT_MAX_BYTES),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)
]


def connection_bound(limits: EdgeLimits) -> int:
    """How many connections may be open: the configured number, if the descriptor limit allows it (K3)."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.connections_max
    return max(min(limits.connections_max, math.floor(soft * 0.9) - _DESCRIPTOR_RESERVE), 16)


def bind(host: str, port: int, backlog: int, *, is_shared: bool = False) -> list[socket.socket]:
    """Listening sockets for every address of `host` ('' is all that this machine has a family for). Raises OSError and
    leaves nothing open.

    `is_shared`: other sockets of this user may listen there too; the kernel spreads connections over them.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):  # /etc/hosts may name one twice
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as exc:
                if host or exc.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6 (ipv6.disable=1)
                    raise
                continue
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(address if port or len(sockets) == 1 else (address[0], sockets[0].getsockname()[1], *address[2:]))
            sock.listen(backlog)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


class Listener:
    """Accepts on several sockets. `open_count` is asked before each accept; who waits for a handshake or is in one is
    counted here. `greetings`: how many agents are past it and have not shown who they are."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        tls: ssl.SSLContext | None,
        limits: EdgeLimits,
        make_protocol: Callable[[str], EdgeConnection],
        open_count: Callable[[], int],
        greetings: Callable[[], int] = lambda: 0,
    ) -> None:
        self._sockets = list(sockets)
        self._tls = tls
        self._limits = limits
        self._make_protocol = make_protocol
        self._open_count = open_count
        self._greetings = greetings
        self._bound = connection_bound(limits)
        self._window = Window(limits.handshakes_max)
        self._waiting = Waiting(is_tls=tls is not None)
        self._handshakes = Handshakes()
        self._turn = 0
        self._due_since: float | None = None
        """CPU time when `_greet_due` was put on the loop's list."""
        self._look: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self._is_closed = False
        self._logged_at = -math.inf
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks.TaskGroup("edge handshakes")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [sock.getsockname()[:2] for sock in self._sockets]

    def start(self) -> None:
        self._resume()

    def room(self) -> None:
        """A connection has ended, or time has passed: accept again if that was what we waited for."""
        if not self._is_closed and not self._is_accepting and (not self._is_full() or self._may_make_room()):
            self._resume()

    async def drain(self) -> None:
        """Close the listening sockets, but greet first who has knocked: the kernel would reset them. Returns when no
        handshake is under way; cancelling it ends none, and nobody listens any more then."""
        try:
            if not self._is_closed and any([ignore_syns(sock) for sock in self._sockets]):
                await asyncio.sleep(LAST_ACK_S)
        finally:
            self._accept_last()
        while self._waiting or self._handshakes:
            await self._tasks.wait()
            await asyncio.sleep(0)

    def _accept_last(self) -> None:
        if not self._is_closed:
            for sock in self._sockets:
                while self._accept(sock):
                    pass
            self.stop()

    def stop(self) -> None:
        """Close the listening sockets; connections live on. Idempotent."""
        self._pause()
        self._is_closed = True
        for sock in self._sockets:
            sock.close()

    async def aclose(self) -> None:
        """Also end the handshakes under way."""
        self.stop()
        self._waiting.close()
        await self._tasks.aclose()

    def _is_full(self) -> bool:
        return self._open_count() + len(self._handshakes) + len(self._waiting) >= self._bound

    def _may_make_room(self) -> bool:
        """Somebody would make room: without a bound for an address, which thousands may share behind a NAT or a load
        balancer, whoever only opens connections could keep all others out."""
        return self._waiting.may_make_room(self._loop.time())

    def _resume(self) -> None:
        self._is_accepting = True
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock.fileno())

    def _accept(self, listening: socket.socket) -> bool:
        """Take who has knocked there; whether there may be more."""
        may_be_more = True
        for _ in range(_ACCEPTS_PER_TURN):
            if not (may_be_more := self._accept_one(listening)):
                break
        if self._due_since is None:  # else its turn comes
            self._greet_due()
        return may_be_more

    def _accept_one(self, listening: socket.socket) -> bool:
        is_full = self._is_full()
        if is_full and not self._may_make_room():
            self._complain("too many connections, accepting pauses")
            self._pause()
            return False
        now = self._loop.time()
        try:
            self._waiting.put(*listening.accept(), now)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._complain("accepting failed", error=error)
            self._pause()
            self._loop.call_later(_RETRY_S, self.room)
            return False
        if is_full:
            self._waiting.make_room(now)
        return True

    def _greet_due(self) -> None:
        """Begin handshakes, once a turn for as long as somebody waits: what this thread has done since this was put on
        the loop's list is a turn."""
        count = 1
        if self._due_since is not None:
            count = self._window.turned(time.thread_time() - self._due_since)
            self._due_since = None
        self._turn += 1
        self._waiting.sort()
        for _ in range(count):
            if (slowest := self._slowest()) is not None:
                self._give_way(slowest)
            with_others, with_agents, with_silent = self._lanes()
            found = self._waiting.take(
                with_others=with_others,
                with_agents=with_agents,
                with_silent=with_silent,
                besides=None if slowest is None else slowest.origin,
            )
            if found is None:
                break
            self._begin(found)
        self.go_on()
        self.room()  # of those who waited some have left

    def go_on(self) -> None:
        """Begin the next handshakes soon, if there is room; nobody tells when an agent has shown who it is."""
        if self._due_since is not None or not self._waiting:
            return
        with_others, with_agents, with_silent = self._lanes()
        if (
            self._waiting.has_next(with_others=with_others, with_agents=with_agents, with_silent=with_silent)
            or self._slowest() is not None
        ):
            self._due_since = time.thread_time()
            self._loop.call_soon(self._greet_due)
        elif self._look is None:
            self._look = self._loop.call_later(_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        if self._due_since is None:  # else its turn comes
            self._greet_due()

    def _lanes(self) -> tuple[bool, bool, bool]:
        """Whether the turn may come of who is no agent, of an agent, and of who is silent."""
        window, handshakes = self._window, self._handshakes
        if not window.has_room(len(handshakes)):
            return False, False, False
        greetings = self._greetings()
        return (
            not self._waiting.has_agents or window.has_room_beside_agents(handshakes.others),
            window.has_room_for_agent(handshakes.agents, greetings),
            window.has_room_for_silent(len(handshakes), greetings),
        )

    def _slowest(self) -> Accepted | None:
        """Whose handshake gives way to who waits: without that a stranger's that stand still would keep all others out,
        whatever he says that he is."""
        window, handshakes, waiting = self._window, self._handshakes, self._waiting
        of_agents = waiting.has_agents and not window.has_room_for_agent(handshakes.agents, self._greetings())
        if not of_agents and window.has_room(len(handshakes)):
            return None
        return handshakes.slowest(waiting, self._loop.time(), self._turn, of_agents=of_agents)

    def _give_way(self, accepted: Accepted) -> None:
        logger.debug("handshake failed", extra={"peer": address_text(accepted.address), "reason": "gave way"})
        self._handshakes.end(accepted)
        if accepted.task is not None:
            accepted.task.cancel()

    def _begin(self, accepted: Accepted) -> None:
        _tune(accepted.sock)
        self._handshakes.begin(accepted, self._loop.time(), self._turn)
        peer = address_text(accepted.address)
        accepted.task = self._tasks.spawn(self._greet(accepted, peer), name=f"handshake {peer}")

    async def _greet(self, accepted: Accepted, peer: str) -> None:
        """Hand the socket to the loop, with TLS if we speak it. Failing is the peer's doing: no traceback."""
        limits, sock = self._limits, accepted.sock
        protocol = self._make_protocol(peer)
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: protocol, sock)
            else:
                protocol.below = await accept_tls(
                    protocol,
                    sock,
                    self._tls,
                    handshake_timeout_s=limits.tls_handshake_timeout_s,
                    shutdown_timeout_s=limits.tls_shutdown_timeout_s,
                )
        except (OSError, EOFError, TimeoutError) as error:
            logger.debug("handshake failed", extra={"peer": peer, "reason": type(error).__name__})
            with contextlib.suppress(OSError):
                sock.close()
        finally:
            self._handshakes.end(accepted)
            self.go_on()
            self.room()

    def _complain(self, event: str, error: OSError | None = None) -> None:
        now = self._loop.time()
        if now - self._logged_at >= 1.0:
            self._logged_at = now
            logger.warning(
                event, extra={"open": self._open_count(), "error": None if error is None else error.strerror}
            )


def _tune(sock: socket.socket) -> None:
    """Keepalive probes against clients that vanished, and a bound for what the kernel holds; TCP_NODELAY is the loop's.

    No TCP_USER_TIMEOUT here: Linux also ends a connection by it whose reader has stopped reading, and
    `kubectl logs -f | less` may wait for ever (P11).
    """
    for level, option, value in _OPTIONS:
        sock.setsockopt(level, option, value)
