"""Keeping one session with the hub: open it, drive it, open the next one.

Never more than one session that takes work: while an old one drains, its replacement is opened first, and the old one
goes on only for the streams it has. Delays: full jitter under a ceiling of a fifth of the outage (design D4); what the
hub asks for with Retry-After or retry_ms comes on top; an outage counts as over only after a session has lasted.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.counts import Counts
from agent.relay.admission import Admission, SessionStreams
from agent.uplink.credentials import HubCredential, Proven
from agent.uplink.diagnose import ConnectFailed, Diagnosis, of_unforeseen
from agent.uplink.session import Opened, Opener
from proto.aio.busypoll import BusyPoll
from proto.aio.commands import CommandServer, Handler
from proto.aio.link import EndReason, Link
from proto.aio.tasks import TaskGroup
from proto.backoff import Backoff
from proto.commands import Verb
from proto.errors import Code
from proto.events import DrainReceived

logger = logging.getLogger(__name__)

STABLE: Final = 30.0
"""Seconds a session must last before the next outage starts from short delays again. A hub that accepts and drops at
once would otherwise be hit a thousand times a second."""
SLOW_DELAY: Final = (30.0, 60.0)
"""Seconds, from and to, between attempts that cannot succeed before somebody changes something."""
LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks at the credential during such a delay."""
REMIND_INTERVAL: Final = 60.0
"""Seconds after which an unchanged diagnosis is logged again."""


Duty = Callable[[Link, Proven], Coroutine[Any, Any, None]]
"""What an agent does for as long as a session is open; cancelled at its end."""


@dataclass(slots=True)
class UplinkState:
    """What health and logs want to know; written by the event loop, read by any thread."""

    is_connected: bool = False
    text: str = "not connected yet"


class Uplink:
    """`run()` until cancelled; `drain()` for an orderly end."""

    def __init__(
        self,
        opener: Opener,
        credential: HubCredential,
        admission: Admission,
        counts: Counts,
        *,
        duties: Sequence[Duty] = (),
        commands: Mapping[Verb, Handler] | None = None,
        jitter: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        busy_poll: BusyPoll | None = None,
    ) -> None:
        self.state = UplinkState()
        self._opener = opener
        self._credential = credential
        self._admission = admission
        self._duties = duties
        self._commands = commands or {}
        self._counts = counts
        self._random = jitter or random.SystemRandom()
        self._backoff = Backoff(self._random.random)
        self._clock = clock
        self._sleep = sleep
        self._busy_poll = busy_poll or BusyPoll(0.0)
        self._links: list[Link] = []
        self._logged: tuple[Diagnosis, float] | None = None
        self._leaving = asyncio.Event()

    async def run(self) -> None:
        """Connect and reconnect for ever. Cancelling aborts every session; no task is left."""
        async with TaskGroup("uplink") as group:
            while (opened := await self._open()) is not None:
                await self._serve(opened, group)
            await asyncio.get_running_loop().create_future()

    async def drain(self, deadline_s: float) -> None:
        """Take no new streams, give those under way `deadline_s`, then say goodbye. Cancel `run` after it.

        Nothing is opened meanwhile, also when the hub drains or ends a session: it would get requests, and be cut with
        `run`.
        """
        self._leaving.set()
        links = tuple(self._links)
        for link in links:
            link.send_drain(deadline_s, Code.CLOSED, "the agent is shutting down")
        try:
            async with asyncio.timeout(deadline_s):
                for link in links:
                    await link.drained()
        except TimeoutError:
            logger.info("streams were still open at the end of the drain")
        for link in links:
            link.close(Code.CLOSED, "the agent is shutting down")

    async def _open(self) -> Opened | None:
        """Attempts until one succeeds; None once the agent has been told to end."""
        while not self._leaving.is_set():
            try:
                opened = await self._opener.open()
            except ConnectFailed as failure:
                await self._back_off(failure.diagnosis)
            except Exception as exc:  # of what a hub, a proxy or a library made of it: the next attempt may go well
                await self._back_off(of_unforeseen(exc), exc)
            else:
                if not self._leaving.is_set():
                    return opened
                opened.transport.abort()
        return None

    async def _back_off(self, diagnosis: Diagnosis, unforeseen: Exception | None = None) -> None:
        """Report a failed attempt, with where it came from if nobody foresaw it, and wait."""
        now = self._clock()
        if diagnosis.retry_s:
            self._backoff.retry_after(diagnosis.retry_s, now)
        delay = self._backoff.delay(now)
        if diagnosis.is_slow:
            delay = max(delay, self._random.uniform(*SLOW_DELAY))
        self._report(diagnosis, delay, now, unforeseen)
        await self._pause(delay, is_slow=diagnosis.is_slow)

    async def _pause(self, delay: float, *, is_slow: bool) -> None:
        """Wait; a slow wait ends early when the credential has changed."""
        if not is_slow:
            await self._sleep(delay)
            return
        mark = self._credential.mark()
        while delay > 0 and self._credential.mark() == mark:
            await self._sleep(min(LOOK_INTERVAL, delay))
            delay -= LOOK_INTERVAL

    def _report(self, diagnosis: Diagnosis, delay: float, now: float, unforeseen: Exception | None) -> None:
        """Say it when it is new, and again once a minute."""
        self._counts.by_failed_step[diagnosis.step.value] += 1
        if not self.state.is_connected:
            self.state.text = str(diagnosis)
        if self._logged is not None:
            logged, at = self._logged
            if (logged.step, logged.what) == (diagnosis.step, diagnosis.what) and now - at < REMIND_INTERVAL:
                return
        self._logged = (diagnosis, now)
        logger.warning(
            "cannot connect to the hub",
            exc_info=unforeseen,
            extra={
                "step": diagnosis.step.value,
                "what": diagnosis.what,
                "cure": diagnosis.cure,
                "retry_in_s": round(delay, 1),
            },
        )

    async def _serve(self, opened: Opened, group: TaskGroup) -> None:
        """Drive a session until it ends or drains, then wait what the back-off says."""
        drains: asyncio.Future[DrainReceived] = asyncio.get_running_loop().create_future()
        streams = SessionStreams(self._admission)
        link = Link(
            opened.session,
            opened.transport,
            on_open=streams.on_open,
            name=opened.welcome.session_id,
            observer=self._counts,
            on_drain=lambda event: None if drains.done() else drains.set_result(event),
            leg=self._busy_poll.leg(),
        )
        started_at = self._clock()
        self._begin(link, opened)
        tending = TaskGroup(f"credential of {link.name}")
        handlers = {**self._credential.handlers(link, opened.proven), **self._commands}
        streams.commands = CommandServer(handlers, tending)
        running = group.spawn(self._drive(link, started_at, opened.proven, tending), name="session")
        either: set[asyncio.Future[Any]] = {running, drains}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        now = self._clock()
        if now - started_at >= STABLE or drains.done():  # a hub that says goodbye is well: its next start is no relapse
            self._backoff.connected()
        wish = drains.result().retry_s if drains.done() else _wish(running)
        if wish:
            self._backoff.retry_after(wish, now)
        drains.cancel()
        await self._sleep(self._backoff.delay(now))

    def _begin(self, link: Link, opened: Opened) -> None:
        self._links.append(link)
        self._counts.sessions += 1
        self._counts.is_connected = self.state.is_connected = True
        self.state.text = "connected"
        self._logged = None
        logger.info(
            "session opened",
            extra={
                "hub": opened.proven.hello.hub_id,
                "cluster": opened.welcome.cluster,
                "session": opened.welcome.session_id,
                "peer": link.peer,
            },
        )

    async def _drive(self, link: Link, started_at: float, proven: Proven, tending: TaskGroup) -> EndReason:
        try:
            async with tending:
                tending.spawn(self._credential.tend(link, proven), name="tend")
                for number, duty in enumerate(self._duties):
                    tending.spawn(duty(link, proven), name=f"duty-{number}")
                reason = await link.run()
        finally:
            self._links.remove(link)
            self._counts.is_connected = self.state.is_connected = any(not other.is_draining for other in self._links)
            if not self.state.is_connected:
                self.state.text = "not connected"
        lasted = self._clock() - started_at
        level = logging.INFO if reason.is_clean else logging.WARNING
        logger.log(
            level,
            "session ended",
            extra={
                "session": link.name,
                "reason": reason.kind.value,
                "code": reason.code.name,
                "detail": reason.text,
                "lasted_s": round(lasted, 1),
            },
        )
        return reason


def _wish(running: asyncio.Task[EndReason]) -> float:
    """What the hub's goodbye asked for."""
    if running.cancelled() or running.exception() is not None:
        return 0.0
    return running.result().retry_s
