"""A hub's relay and its routes, a cluster's agents, users, and what must hold whatever happens to them."""

import asyncio
import collections
import hashlib
import logging
import random
import zlib
from typing import cast

from hub.auth.bearer import Bearer
from hub.auth.grants import Access
from hub.auth.principal import Principal
from hub.metrics import LinkMetrics, Metrics
from hub.proxy.relay import Authorizer, Relay
from hub.tunnel.registry import Registry, Tunnel
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.events import EndReason
from proto.window import Budget
from tests.faults.sim.client import Client
from tests.faults.sim.programs import Feed
from tests.faults.sim.session import Session
from tests.faults.sim.ways import End

BUFFER_BYTES = 64 * 1024 * 1024
IDLE_NOTICED_S = 15.5
"""ADR 10: an idle session's dead peer is known within this."""
USED_NOTICED_S = 6.5
"""One that is in use: D4's six seconds, and a step of the look-out."""
WATCH_S = 0.25
OVERTIME_S = 1.0
"""By how much later than its deadline a request may end: a look each tenth of a second, and the way back."""
ERRORS = frozenset({"503", "504", "429"})
BREACHES = frozenset({Code.PROTOCOL, Code.FLOW_CONTROL})
NOISE = random.Random("bodies").randbytes(4 * 1024 * 1024)
"""No piece of it is like another one. To make it for each body would take an eighth of a seed's time."""


class Observer(LinkMetrics):
    """The hub's own; it says too how many frames came late."""

    late_frames = 0

    def late(self, code: Code, n: int) -> None:
        super().late(code, n)
        self.late_frames += n


class World:
    """Everything but the dice."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.registry = Registry(self._loop.time)
        self.budget = Budget(BUFFER_BYTES)
        metrics = Metrics()
        self.observer = Observer(metrics)
        self.relay = Relay(
            authenticator=self,
            authorizer=cast(Authorizer, self),
            routes=self.registry,
            metrics=metrics,
            budget=self.budget,
            now=self._loop.time,
        )
        self.clients: list[Client] = []
        self.executions: collections.Counter[str] = collections.Counter()
        self.feeds: dict[Feed, None] = {}
        """Watches that are under way at the agents."""
        self.supersessions = 0
        self.broken: list[str] = []
        """What did not hold."""
        self.trace = hashlib.sha256()
        self._in_use_since: dict[Link, float] = {}
        self._tasks = TaskGroup("world")

    def now(self) -> float:
        return self._loop.time()

    # What the relay asks

    def authenticate(self, bearer: Bearer) -> Principal:
        return Principal("alice", (), "tok", False, None)

    def access(self, principal: Principal, cluster_name: str) -> Access | None:
        return Access("uid-c1", "c1", False, (), ())

    # What agents do

    def drives(self, tunnel: Tunnel) -> None:
        """A session begins at the hub, where it lives as long as the hub thinks."""

        async def drive() -> None:
            self.ended(tunnel.link, await tunnel.link.run())

        self._tasks.spawn(drive(), name=tunnel.session_id)

    def fenced(self, old: Link) -> None:
        """A newer session of its instance is open: nothing comes of this one any more."""
        self.supersessions += 1
        if old.is_open or old.streams:
            self.broken.append(f"{old.name} was superseded and kept {old.streams} streams")

    def ended(self, link: Link, reason: EndReason) -> None:
        """Faults lose what was sent, or delay it; they make no side break the protocol or exceed its credit."""
        if reason.code in BREACHES:
            self.broken.append(f"{link.name} ended with {reason.code.name}: {reason.text}")

    def agent_drains(self, tunnel: Tunnel) -> None:
        self.registry.draining(tunnel)
        self.relay.drain(tunnel.link)

    def executed(self, name: str, method: str, body: bytes) -> None:
        self.executions[name] += 1
        self.note(f"executed {name}")
        if body != self.body(f"{name} up", len(body)):
            self.broken.append(f"{method} {name} was executed with a wrong body of {len(body)} bytes")
        if method != "GET" and self.executions[name] > 1:
            self.broken.append(f"{method} {name} was executed {self.executions[name]} times")

    def ran(self, name: str) -> None:
        """An exec has begun to run its program."""
        self.executions[name] += 1
        self.note(f"ran {name}")
        if self.executions[name] > 1:
            self.broken.append(f"exec {name} was run {self.executions[name]} times")

    def body(self, name: str, size: int) -> bytes:
        """What the API server answers, and what a change sends: noise from a place of its own, so that whatever is
        lost, repeated or in the wrong place is seen."""
        begin = zlib.crc32(name.encode()) % (len(NOISE) - size)
        return NOISE[begin : begin + size]

    def arrived(self, end: End) -> None:
        self.note(end.peer)

    def note(self, what: str) -> None:
        """For the trace by which two runs of a seed are compared."""
        self.trace.update(f"{self.now():.6f} {what}\n".encode())

    # The look-out

    def start(self) -> None:
        self.relay.start()
        self._tasks.spawn(self._watch(), name="look-out")

    async def close(self) -> None:
        await self.relay.aclose()
        await self._tasks.aclose()

    async def _watch(self) -> None:
        """No session is taken for alive for longer than promised."""
        while True:
            await asyncio.sleep(WATCH_S)
            now = self.now()
            for feed in tuple(self.feeds):
                feed.tick()
            for tunnel in self.registry:
                link = tunnel.link
                if link.is_draining or not link.is_open:
                    continue
                if link.streams:
                    since = self._in_use_since.setdefault(link, now)
                else:
                    since = now
                    self._in_use_since.pop(link, None)
                silent = now - link.last_received_at
                if silent > IDLE_NOTICED_S or min(silent, now - since) > USED_NOTICED_S:
                    self.broken.append(f"{link.name} silent for {silent:.2f} s and still open")

    def check_session(self, session: Session) -> None:
        """What came back is what was said; all of it when the session seems to have ended by itself."""
        got = bytes(session.body)
        if session.fate == "whole" and got != session.expected:
            self.broken.append(f"{session.name}: cut after {len(got)} bytes, and seems to have ended")
        elif session.is_opaque and not session.expected.startswith(got):
            self.broken.append(f"{session.name}: other bytes than were said")
        if session.fate not in ERRORS | {"whole", "cut", "left"}:
            self.broken.append(f"{session.name}: {session.fate or 'never ended'}")

    def check_client(self, client: Client, *, may_fail: bool) -> None:
        """The answer is right, or visibly none."""
        expected = self.body(client.name, client.size)
        if client.timeout_s is not None:
            may_fail = may_fail or client.fate == "504"
            if client.fate in ERRORS and client.ended_at - client.began_at > client.timeout_s + OVERTIME_S:
                waited = client.ended_at - client.began_at
                self.broken.append(f"{client.name}: {client.fate} after {waited:.2f} s of {client.timeout_s}")
        if client.fate == "whole":
            if bytes(client.body) != expected:
                self.broken.append(f"{client.name}: a wrong body of {len(client.body)} for {client.size} bytes")
        elif client.fate == "cut":
            if not expected.startswith(bytes(client.body)):
                self.broken.append(f"{client.name}: cut, and wrong before that")
            elif client.method == "GET" and not client.body and not may_fail:
                self.broken.append(f"{client.name}: a read was cut before its first byte")
        elif client.fate not in ERRORS | {"left"}:
            self.broken.append(f"{client.name}: {client.fate or 'never ended'}")
        elif client.method == "GET" and client.fate != "left" and not may_fail:
            self.broken.append(f"{client.name}: a read got {client.fate} although an agent was well")
        if client.fate == "504" and client.method != "GET" and b"retryAfterSeconds" in client.body:
            self.broken.append(f"{client.name}: a change of unknown outcome says when to repeat it")


class Errors(logging.Handler):
    """Whatever is logged as an error breaks a promise: exceptions are caught at seams, and said there."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.name}: {record.getMessage()} {record.exc_info and record.exc_info[1]!r}")
