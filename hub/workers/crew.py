"""The workers as the main process sees them: started, heard, started again; and what one of them tells the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

from hub.metrics import Metrics
from hub.status import RECENTLY_LOST_S
from hub.store.interface import Store
from hub.store.model import StoreUnavailable
from hub.tunnel.lastseen import LastSeen
from hub.workers import messages, storeview
from hub.workers.channel import Channel, ChannelLost
from hub.workers.hoplimits import hop_limits
from hub.workers.host import turn_away
from hub.workers.messages import Done, Lives, Measured, News, Opened, Outcome, Question, Reply
from hub.workers.metrics import Sums
from hub.workers.packets import pair
from hub.workers.process import spawn
from hub.workers.transport import HopTransport
from proto.aio.tasks import TaskGroup
from proto.limits import Limits
from proto.rationing import RationedLog
from proto.versions import PRODUCT_VERSION

logger = logging.getLogger(__name__)

APPLY_S: Final = 5.0
"""A worker that does not have a change in its indexes by then would serve what was revoked: it is killed."""
PULSE_S: Final = 2.0
START_S: Final = 60.0
"""For each four workers: a process that does not serve by then is killed, since people wait at its sockets. Loading a
store of 5,000 clusters takes seconds, and on a small machine all workers load at once."""
SILENT_S: Final = 10.0
"""A worker whose loop answers nothing for so long is killed: it holds its share of the connections."""
ANSWER_S: Final = 2.0
"""For metrics and for looks at tunnels: who takes longer is left out, or as it was at the last scrape."""
MISSED_PER_S: Final = 1 / 300
"""Lines about each worker that does not say its metrics in time."""
ROTATE_S: Final = 20.0
"""For an agent that makes a new key: as long as it may take to answer, and some."""
STEADY_S: Final = 30.0
"""A worker that served and lived for so long is started again at once; the next failure counts as the first."""
BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STOP_S: Final = 10.0


class Member:
    """One worker's place. `sockets` outlive its processes: what waits there is served by the next one."""

    def __init__(self, number: int, sockets: list[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets
        self.channel: Channel | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.is_greeted = False
        """It was told of every tunnel, and hears from here on what becomes of them."""
        self.is_serving = False
        self.tunnels: dict[str, Opened] = {}
        self.draining: set[str] = set()
        """Sessions, of those."""

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def close_sockets(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets = []


class RemoteSession:
    """A worker's session, as hub.catrust asks for it."""

    def __init__(self, opened: Opened, live: messages.Live | None) -> None:
        self.credential_id = opened.credential_id
        self.instance = opened.instance.hex()
        self.role = opened.role
        self.node = opened.node
        self.trusts = () if live is None else live.trusts
        self.keeps_trust = live is not None and live.keeps_trust
        self.trust_problem = "" if live is None else live.trust_problem


class Crew:
    """`start`, then `drain`, `stop` and `aclose`."""

    def __init__(
        self,
        store: Store,
        hub_id: str,
        settings: str,
        listen: Callable[[], list[socket.socket]],
        members: list[list[socket.socket]],
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        """`settings`: for the workers. `listen`: new listening sockets for one. `members`: those of each."""
        self._store = store
        self._hub_id = hub_id
        self._settings = settings
        self._listen = listen
        self._metrics = metrics
        self._limits = hop_limits(limits)
        self._members = [Member(number, sockets) for number, sockets in enumerate(members, start=1)]
        self._answered = 0
        self._is_stopping = False
        self._has_started = False
        self._changed = asyncio.Event()
        self._lost: LastSeen[tuple[float, Opened]] = LastSeen()
        """By cluster: when a tunnel that took requests ended last, and which."""
        self._tasks = TaskGroup("crew")
        self.sums = Sums()
        self._missed = RationedLog(logger, time.monotonic, burst=1.0, per_s=MISSED_PER_S)
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the hub as a whole cannot go on."""
        metrics.workers.set_function(lambda: len(list(self._serving())))

    async def start(self) -> None:
        """Return when all serve, or `failure` is set."""
        for member in self._members:
            self._tasks.spawn(self._keep(member), name=f"worker {member.number}")
        while len(list(self._serving())) < len(self._members) and not self.failure.done():
            self._changed.clear()
            changed = self._tasks.spawn(self._changed.wait(), name="start")
            failed = self._tasks.spawn(self.failed(), name="failure")
            await asyncio.wait([changed, failed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            failed.cancel()
        self._has_started = not self.failure.done()

    async def failed(self) -> str:
        """Return why the hub as a whole cannot go on. Cancellation-safe."""
        return await asyncio.shield(self.failure)

    def tell(self, news: News) -> None:
        """To every worker."""
        for member in self._members:
            if member.channel is not None:
                member.channel.tell(news)

    async def drain(self, delay_s: float) -> None:
        """Every worker drains; after `delay_s` nobody listens any more. A worker that ends is not replaced."""
        self._is_stopping = True
        waiting = [self._ask(member, messages.Drain()) for member in self._serving()]
        self._tasks.spawn(self._close_sockets(delay_s), name="sockets")
        await asyncio.gather(*waiting)

    async def stop(self) -> None:
        """Every worker ends, in order if it does so in time; one that only starts is killed: it serves nobody."""
        self._is_stopping = True
        self.tell(messages.Stop())
        for member in self._members:
            if not member.is_serving:
                member.kill()
        ends = [member.process.wait() for member in self._members if member.process is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*ends)

    async def aclose(self) -> None:
        """Kill what is left."""
        self._is_stopping = True
        for member in self._members:
            member.close_sockets()
        await self._tasks.aclose()

    async def reached(self, revision: int) -> None:
        """Return when no worker serves without this revision in its indexes."""
        self._answered = max(self._answered, revision)
        await asyncio.gather(*(self._reached(member, revision) for member in self._serving()))

    async def measure(self) -> Sums:
        """Ask every worker for its metrics. Of one that does not answer in time the last ones hold."""
        asked = [(member, member.channel) for member in self._serving()]
        replies = await asyncio.gather(*(self._ask(member, messages.Measure(), ANSWER_S) for member, _ in asked))
        for (member, channel), reply in zip(asked, replies, strict=True):
            number = member.number
            if member.channel is not channel:  # its process has ended meanwhile, and was summed up
                continue
            if isinstance(reply, Measured):
                self.sums.take(number, reply)
            elif channel is not None and channel.is_open:  # else it is about to end, which is not being late
                self._metrics.worker_scrapes_missed.inc()
                self._missed.log(logging.WARNING, "worker did not say its metrics in time", str(number), worker=number)
        return self.sums

    async def sessions(self) -> dict[str, list[RemoteSession]]:
        """What every worker says of its agents and the hub's CAs, by cluster."""
        members = list(self._serving())
        replies = await asyncio.gather(*(self._ask(member, messages.Look(""), ANSWER_S) for member in members))
        found: dict[str, list[RemoteSession]] = {}
        for member, reply in zip(members, replies, strict=True):
            lives = {live.session_id: live for live in reply.tunnels} if isinstance(reply, Lives) else {}
            for opened in member.tunnels.values():
                shown = RemoteSession(opened, lives.get(opened.session_id))
                found.setdefault(opened.cluster_uid, []).append(shown)
        return found

    def connected(self) -> set[str]:
        """Uids of the clusters that a request finds a route to, as the workers have told; for any thread."""
        return {
            opened.cluster_uid
            for member in self._members
            for opened in tuple(member.tunnels.values())
            if opened.is_eligible and opened.session_id not in member.draining
        }

    # -- one worker

    async def _keep(self, member: Member) -> None:
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            has_served = await self._live(member)
            if self._is_stopping:
                return
            self._metrics.worker_restarts.inc()
            is_steady = has_served and asyncio.get_running_loop().time() - began >= STEADY_S
            failures = 0 if is_steady else failures + 1
            if not has_served and not self._has_started:
                self._fail("a worker did not start; the log above says why")
                return
            if failures > 1 and not await self._pause(member, BACKOFF_S[min(failures - 2, len(BACKOFF_S) - 1)]):
                return

    async def _pause(self, member: Member, delay_s: float) -> bool:
        """It keeps failing: nobody may wait at its sockets meanwhile. Whether it is to go on: it listens again."""
        member.close_sockets()
        await asyncio.sleep(delay_s)
        while not (member.sockets or self._is_stopping):
            try:
                member.sockets = self._listen()
            except OSError as exc:
                logger.error("worker cannot listen", extra={"worker": member.number, "reason": exc.strerror})
                await asyncio.sleep(BACKOFF_S[-1])
        return bool(member.sockets)

    async def _live(self, member: Member) -> bool:
        """One process of a worker from its start to its end; whether it served."""
        try:
            process, ours = await _started()
        except OSError as exc:
            logger.error("worker not started", extra={"worker": member.number, "reason": exc.strerror})
            return False
        member.process = process
        if self._is_stopping:
            member.kill()
        channel = member.channel = Channel(
            ours,
            f"worker {member.number}",
            on_question=lambda question: self._answer(member, question),
            on_news=lambda news, sockets: self._news(member, news, sockets),
            on_lost=member.kill,
        )
        pulse = self._tasks.spawn(self._pulse(member, channel), name=f"pulse {member.number}")
        try:
            status = await process.wait()
            if not self._is_stopping:
                logger.error("worker ended", extra={"worker": member.number, "pid": process.pid, "status": status})
            return member.is_serving
        finally:
            pulse.cancel()
            member.kill()
            await process.wait()
            self._ended(member)
            await channel.aclose()

    def _ended(self, member: Member) -> None:
        member.channel = member.process = None
        member.is_greeted = member.is_serving = False
        for opened in member.tunnels.values():
            self._lose(opened)
        member.tunnels.clear()
        member.draining.clear()
        self.sums.ended(member.number)
        self.tell(messages.Gone(member.number))
        self._changed.set()

    async def _pulse(self, member: Member, channel: Channel) -> None:
        """Notice a worker that lives and does nothing."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(PULSE_S)
            if member.is_serving:
                try:
                    await channel.ask(messages.Ping(), SILENT_S)
                except TimeoutError:
                    logger.error("worker does not answer, killed", extra={"worker": member.number})
                    member.kill()
                except ChannelLost:
                    return
            elif clock() - began >= START_S * max(len(self._members) / 4, 1.0) and not self._is_stopping:
                logger.error("worker does not begin to serve, killed", extra={"worker": member.number})
                member.kill()
                return

    # -- what workers say

    def _news(self, member: Member, news: News, sockets: list[socket.socket]) -> None:
        if isinstance(news, messages.Hello):
            self._greet(member, news)
        elif isinstance(news, messages.Loaded):
            self._tasks.spawn(self._admit(member), name=f"admit {member.number}")
        elif isinstance(news, messages.Hop):
            self._lead(news, sockets)
        else:
            if isinstance(news, Opened):
                member.tunnels[news.session_id] = news
            elif isinstance(news, messages.Draining):
                member.draining.add(news.session_id)
            elif isinstance(news, messages.Closed):
                if (ended := member.tunnels.pop(news.session_id, None)) is not None:
                    self._lose(ended)
                member.draining.discard(news.session_id)
            for other in self._others(member):
                if other.channel is not None and other.is_greeted:
                    other.channel.tell(news)

    def _greet(self, member: Member, hello: messages.Hello) -> None:
        if hello.build != PRODUCT_VERSION:
            self._fail(f"the program on the disk is version {hello.build} now: restart the hub")
            return
        assert member.channel is not None
        start = messages.Start(member.number, self._hub_id, self._settings, len(member.sockets))
        member.channel.tell(start, *(sock.dup() for sock in member.sockets))
        self._tell_losses(member.channel)
        for other in self._others(member):
            for opened in other.tunnels.values():
                member.channel.tell(opened)
            for session_id in other.draining:
                member.channel.tell(messages.Draining(session_id))
        member.is_greeted = True

    def _lose(self, opened: Opened) -> None:
        if opened.is_eligible:
            self._lost.note(opened.cluster_uid, (asyncio.get_running_loop().time(), opened))

    def _tell_losses(self, channel: Channel) -> None:
        """What was lost lately was there and has ended: else a worker that begins would call a cluster unconnected
        where the others have clients wait for it, of agents that come back from the same failure."""
        since = asyncio.get_running_loop().time() - RECENTLY_LOST_S
        for at, opened in self._lost:
            if at >= since:
                channel.tell(opened)
                channel.tell(messages.Closed(opened.session_id))

    async def _admit(self, member: Member) -> None:
        """Let a worker serve once it has everything that was ever answered as done."""
        channel = member.channel
        if channel is None:
            return
        revision = -1
        try:
            while revision < self._answered:
                revision = self._answered
                await channel.ask(messages.Reached(revision))
        except StoreUnavailable:
            member.kill()
            return
        if self._is_stopping or member.channel is not channel:
            return
        member.is_serving = True
        channel.tell(messages.Serve())
        self._changed.set()

    def _lead(self, hop: messages.Hop, sockets: list[socket.socket]) -> None:
        """Give one end of a hop to the owner of the tunnel, if that lives."""
        if not sockets:  # the owner could do nothing; who asked sees the end of the other one
            logger.error("hop lost its socket on the way, too many open files?", extra={"worker": hop.worker})
            return
        owner = next((each for each in self._members if each.number == hop.worker), None)
        if owner is not None and owner.channel is not None and owner.is_greeted and owner.channel.is_open:
            owner.channel.tell(hop, *sockets)
            return
        for sock in sockets:
            goodbye = turn_away(HopTransport(sock, f"hop to {hop.session_id}"), self._limits)
            self._tasks.spawn(goodbye, name="goodbye")

    async def _answer(self, member: Member, question: Question) -> Reply:
        answer = await storeview.answer(self._store, question)
        if answer is not None:
            return answer
        if isinstance(question, messages.ReachedEverywhere):
            await self.reached(question.revision)
        elif isinstance(question, messages.Look):
            return await self._look(member, question)
        elif isinstance(question, messages.RotateKey):
            return await self._rotate_key(member, question)
        return Done()

    async def _look(self, member: Member, question: messages.Look) -> Lives:
        asked = [
            self._ask(other, question, ANSWER_S)
            for other in self._others(member)
            if not question.cluster_uid
            or any(each.cluster_uid == question.cluster_uid for each in other.tunnels.values())
        ]
        found = [reply for reply in await asyncio.gather(*asked) if isinstance(reply, Lives)]
        return Lives(tuple(live for lives in found for live in lives.tunnels))

    async def _rotate_key(self, member: Member, question: messages.RotateKey) -> Outcome:
        """Ask the others that have a tunnel of the agent, one after the other, until one has done it."""
        outcome = Outcome(None)
        for other in self._others(member):
            if any(each.credential_id == question.agent_id for each in other.tunnels.values()):
                reply = await self._ask(other, question, ROTATE_S)
                if not isinstance(reply, Outcome):
                    outcome = Outcome("the worker that has its tunnel did not answer in time")
                elif reply.why is not None:
                    outcome = reply
                if outcome.why == "":
                    break
        return outcome

    async def _reached(self, member: Member, revision: int) -> None:
        channel, process = member.channel, member.process
        if channel is None or process is None:
            return
        try:
            await channel.ask(messages.Reached(revision), APPLY_S)
        except (TimeoutError, StoreUnavailable) as exc:
            if not isinstance(exc, ChannelLost):
                logger.error("worker does not follow the store, killed", extra={"worker": member.number})
            member.kill()
            await process.wait()

    async def _ask(self, member: Member, question: Question, timeout_s: float | None = None) -> Reply | None:
        """The answer, None if there is none in time."""
        if member.channel is None:
            return None
        try:
            return await member.channel.ask(question, timeout_s)
        except (TimeoutError, StoreUnavailable):
            return None

    # -- internals

    def _serving(self) -> Iterator[Member]:
        return (member for member in self._members if member.is_serving)

    def _others(self, member: Member) -> Iterator[Member]:
        return (other for other in self._members if other is not member)

    def _fail(self, text: str) -> None:
        if not self.failure.done():
            self.failure.set_result(text)

    async def _close_sockets(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for member in self._members:
            member.close_sockets()


async def _started() -> tuple[asyncio.subprocess.Process, socket.socket]:
    """A new worker's process and our end of its channel. Raises OSError."""
    ours, theirs = pair()
    with contextlib.closing(theirs):
        try:
            return await spawn(theirs.fileno()), ours
        except BaseException:
            ours.close()
            raise
