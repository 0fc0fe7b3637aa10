"""Thousands of simulated agents in one process: the real protocol (proto.session), canned answers instead of a cluster.

    python -m tests.bench.scale.agents HUB_URL CA_FILE SHOWN_FILE PER_LINE

The file has what they show, a line a cluster (shown.py); PER_LINE instances connect with each. A line of JSON on
standard output says when all are connected, each time they are: {"open": count, "at": monotonic seconds, "attempts":
the most that one of them made at a hub that listened}. The line `drop` on standard input aborts every connection; each
agent comes back as a real one does (proto.backoff). The end of input ends it all.

A real agent takes 50 MiB; one here takes what a session takes, so what is measured is the hub.
"""

import asyncio
import json
import random
import resource
import secrets
import ssl
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Final

from proto import events, handshake, limits, messages
from proto.aio import loop as event_loop
from proto.aio import tasks
from proto.backoff import Backoff
from proto.session import Role, Session
from proto.versions import SUBPROTOCOL
from tests.bench.scale import shown, wire

OPEN_TIMEOUT_S: Final = 10.0
"""As agent.uplink.wsclient."""
HANDSHAKE_TIMEOUT_S: Final = 10.0
BEAT_S: Final = 0.5

_JSON: Final = ((b"content-type", b"application/json"),)
_SMALL: Final = b"x" * 1024
_EVENT: Final = b'{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"small"}}}\n'


class Agent:
    """One instance of one cluster."""

    def __init__(self, fleet: "Fleet", shows: shown.Shown) -> None:
        self._fleet = fleet
        self._shows = shows
        self._instance = secrets.token_bytes(16)
        self._epoch = 0
        self._attempts = 0
        self._backoff = Backoff(random.random)
        self.session: Session | None = None
        self.wire: wire.Wire | None = None

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        while True:
            try:
                await self._open()
            except wire.Refused as refused:
                self._attempts += 1
                self._backoff.retry_after(refused.retry_s, time.monotonic())
            except (OSError, EOFError, TimeoutError) as problem:
                self._attempts += not isinstance(problem, ConnectionRefusedError)
                self._fleet.failed(problem)
            else:
                await self._live()
            await asyncio.sleep(self._backoff.delay(time.monotonic()))

    def flush(self, now: float) -> None:
        """Write what the session has to say."""
        session, link = self.session, self.wire
        while session is not None and link is not None and session.has_output:
            if message := session.outbox(now):
                link.send(message)
                session.written()
            self._answer(session, now)

    def beat(self, now: float) -> None:
        session = self.session
        if session is not None and session.is_open and now + BEAT_S >= session.next_timer(now):
            session.handle_timer(now)
            self._answer(session, now)
            self.flush(now)

    async def _open(self) -> None:
        """One attempt. Raises OSError, EOFError, TimeoutError."""
        fleet = self._fleet
        link = await wire.connect(fleet.host, fleet.port, fleet.context, OPEN_TIMEOUT_S)
        self._epoch += 1
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                side = handshake.AgentHandshake("cluster", self._instance, self._epoch, limits.Limits())
                hello = side.receive_hello(await link.receive())
                link.send(side.auth(self._shows(hello, self._instance, self._epoch)))
                answer = side.receive_answer(await link.receive())
                if isinstance(answer, messages.Refused):
                    raise ConnectionRefusedError(answer.text)
        except BaseException:
            link.abort()
            raise
        self.wire, self.session = link, Session(Role.AGENT, side.negotiated, limits.Limits())

    async def _live(self) -> None:
        link, session = self.wire, self.session
        assert link is not None
        assert session is not None
        self._backoff.connected()
        now = time.monotonic()
        session.start(now)
        link.hand_to(self._received)
        self.flush(now)
        self._fleet.opened(self._attempts + 1)
        self._attempts = 0
        try:
            await link.ended
        finally:
            session.receive_eof()
            self.wire = self.session = None
            self._fleet.lost()
            link.abort()

    def _received(self, message: bytes) -> None:
        session = self.session
        if session is not None:
            now = time.monotonic()
            session.receive(message, now)
            self._answer(session, now)
            self.flush(now)

    def _answer(self, session: Session, now: float) -> None:
        for event in session.events():
            if isinstance(event, events.StreamOpened) and isinstance(event.message, messages.HttpRequest):
                is_watch = b"watch=" in event.message.path
                session.send_head(event.stream, messages.HttpHead(status=200, headers=_JSON), now=now)
                session.send(event.stream, _EVENT if is_watch else _SMALL, end=not is_watch, now=now)
            elif isinstance(event, events.DataReceived):
                session.consumed(event.stream, len(event.data))
            elif isinstance(event, events.DrainReceived):
                self._backoff.retry_after(event.retry_s, now)
            elif isinstance(event, events.SessionEnded) and self.wire is not None:
                self.wire.abort()


class Fleet:
    """All agents of this process."""

    def __init__(self, url: str, ca: str, lines: list[str], per_line: int) -> None:
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname or "", address.port or 443
        self.context = ssl.create_default_context(cafile=ca)
        self.context.set_alpn_protocols([SUBPROTOCOL, "http/1.1"])
        self._agents = [Agent(self, shows) for shows in map(shown.read, lines) for _ in range(per_line)]
        self._open = self._attempts = 0
        self._problems: set[str] = set()

    async def run(self) -> None:
        """Until standard input ends."""
        async with tasks.TaskGroup("agents") as group:
            for number, agent in enumerate(self._agents):
                group.spawn(agent.run(), name=str(number))
            group.spawn(self._beat(), name="beat")
            while (await asyncio.to_thread(sys.stdin.readline)).strip() == "drop":
                for agent in self._agents:
                    if agent.wire is not None:
                        agent.wire.abort()

    def opened(self, attempts: int) -> None:
        self._open += 1
        self._attempts = max(self._attempts, attempts)
        if self._open == len(self._agents):
            said = {"open": self._open, "at": time.monotonic(), "attempts": self._attempts}
            print(json.dumps(said), flush=True)
            self._attempts = 0

    def failed(self, problem: Exception) -> None:
        """Say what goes wrong, each kind once: the log of a run that never gets all its tunnels."""
        if repr(problem) not in self._problems:
            self._problems.add(repr(problem))
            print(repr(problem), file=sys.stderr, flush=True)

    def lost(self) -> None:
        self._open -= 1

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            for agent in self._agents:
                agent.beat(time.monotonic())


async def _run(url: str, ca: str, lines: list[str], per_line: int) -> None:
    await Fleet(url, ca, lines, per_line).run()


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    url, ca, file, per_line = sys.argv[1:]
    event_loop.settle()
    event_loop.run(_run(url, ca, Path(file).read_text().splitlines(), int(per_line)))


if __name__ == "__main__":
    main()
