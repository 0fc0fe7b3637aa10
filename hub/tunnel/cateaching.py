"""Telling agents which CAs to trust while the hub's own is replaced, each on the session that it has proven."""

from __future__ import annotations

import asyncio
import collections
import datetime
import heapq
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hub.auth.nodes import ROLE_NODE
from hub.catrust import Lesson
from hub.slices import in_slices
from hub.tunnel.registry import Registry, Tunnel
from proto.aio.commands import call
from proto.aio.tasks import TaskGroup
from proto.commands import LEARN_CA, CaLearnt, LearnCa
from proto.errors import Code, RiataError

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
"""How often is looked for agents that were not told yet."""
AGAIN_S: Final = 20.0
"""When one that did not learn is asked again."""
REFUSED_S: Final = 3600.0
"""When one that refused is asked again while nobody waits for it: behind a terminator that the hub does not know of it
refuses each time."""
UNKEPT_S: Final = 300.0
"""When a cluster agent is asked again that has learnt it and could not write it down: its API server may have been away
just then, and its session lasts for months. A node agent has no place to write to."""
AT_ONCE: Final = 50
OF_ONE_CLUSTER: Final = 20
"""Of these, agents of one cluster: thousands of node agents that never answer must not hold up the others' CA."""
_AT_A_LOOK: Final = 100
"""Agents that are looked at between two looks at the time: less than a slice (hub.slices)."""
_SHOWN: Final = 200
"""Characters of an agent's own words, which `riata-hub ca status` writes to an operator's terminal."""

_Due = tuple[float, datetime.datetime, int, Tunnel]
"""Since when, and of what age; the number keeps tunnels from being compared."""


class CaTeaching:
    """`run` for ever; it does nothing while there is nothing to tell."""

    def __init__(
        self,
        registry: Registry,
        lesson: Callable[[], Lesson | None],
        tasks: TaskGroup,
        *,
        clock: Callable[[], float] = time.monotonic,
        ask: Callable[..., Awaitable[Any]] = call,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._registry = registry
        self._lesson = lesson
        self._tasks = tasks
        self._clock = clock
        self._ask_agent = ask
        self._interval_s = interval_s
        self._asked: set[Tunnel] = set()
        self._queue: list[_Due] = []
        """A heap; made anew when it is used up, and for another lesson."""
        self._queued_for = ""
        """Digest of the lesson."""

    async def run(self) -> None:
        while True:
            lesson = self._lesson()
            if lesson is not None:
                await self._tell(lesson)
            else:
                self._queue = []  # sessions that have ended would be kept
            await asyncio.sleep(self._interval_s)

    async def _tell(self, lesson: Lesson) -> None:
        """Ask from the front of the queue while there is room. At its end it is used up: who was passed over, for
        others of its cluster are being asked, is in the next one with those who have come meanwhile."""
        if len(self._asked) >= AT_ONCE:
            return
        digest = lesson.digest
        if not self._queue or self._queued_for != digest:
            self._queue, self._queued_for = await self._due(digest), digest
        asked_of = collections.Counter(tunnel.identity.cluster_uid for tunnel in self._asked)
        passed: list[_Due] = []
        async for _ in in_slices(range(len(self._queue))):
            if len(self._asked) >= AT_ONCE:
                break
            each = heapq.heappop(self._queue)
            tunnel, uid = each[-1], each[-1].identity.cluster_uid
            if self._due_since(tunnel, digest) is None:
                continue
            if asked_of[uid] >= OF_ONE_CLUSTER:
                passed.append(each)
                continue
            asked_of[uid] += 1
            self._asked.add(tunnel)
            self._tasks.spawn(self._ask(tunnel, lesson, digest), name=f"ca-{tunnel.session_id}")
        if self._queue:
            for each in passed:
                heapq.heappush(self._queue, each)

    async def _due(self, digest: str) -> list[_Due]:
        """Who is to be asked, who has waited the longest first: those not asked of this lesson yet, by the age of their
        sessions, then the others as their time came. In any other order some hundred agents that never answer, or that
        come anew instead, would have all places for ever.

        In slices, also their order: there may be 60,000, and to sort them takes 0.1 s in one piece."""
        everybody = list(self._registry)
        due: list[_Due] = []
        async for start in in_slices(range(0, len(everybody), _AT_A_LOOK)):
            for number, tunnel in enumerate(everybody[start : start + _AT_A_LOOK], start):
                since = self._due_since(tunnel, digest)
                if since is not None:
                    heapq.heappush(due, (since, tunnel.connected_at, number, tunnel))
        return due

    def _due_since(self, tunnel: Tunnel, digest: str) -> float | None:
        """On the links' clock; None if it is not to be asked now."""
        trust = tunnel.trust
        since = trust.again_at if digest in {trust.told, trust.missed} else 0.0
        return since if since <= self._clock() and tunnel not in self._asked and tunnel.link.may_open else None

    async def _ask(self, tunnel: Tunnel, lesson: Lesson, digest: str) -> None:
        trust = tunnel.trust
        try:
            args = LearnCa(ca=lesson.ca.decode("ascii"), pins=lesson.pins)
            learnt = await self._ask_agent(tunnel.link, LEARN_CA, args)
        except (RiataError, TimeoutError) as exc:
            trust.problem = _shown(str(exc)) or "it did not answer in time"
            trust.missed = digest
            has_refused = isinstance(exc, RiataError) and exc.code is Code.REFUSED
            trust.again_at = self._clock() + (REFUSED_S if has_refused and not lesson.is_between else AGAIN_S)
            logger.info(
                "an agent has not learnt the hub's CAs", extra={"session": tunnel.session_id, "why": trust.problem}
            )
        else:
            assert isinstance(learnt, CaLearnt)
            trust.pins, trust.keeps, trust.problem, trust.told = learnt.pins, learnt.keeps, "", digest
            trust.missed = ""  # `again_at` is of what it was told now; an older lesson may have to be told again
            is_settled = learnt.keeps or tunnel.identity.role == ROLE_NODE
            trust.again_at = math.inf if is_settled else self._clock() + UNKEPT_S
        finally:
            self._asked.discard(tunnel)


def _shown(said: str) -> str:
    return "".join(each if each.isprintable() else " " for each in said[:_SHOWN])
