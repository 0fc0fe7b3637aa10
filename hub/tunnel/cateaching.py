"""Telling agents which CAs to trust while the hub's own is replaced, each on the session that it has proven."""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hub.auth.nodes import ROLE_NODE
from hub.catrust import Lesson
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
_SHOWN: Final = 200
"""Characters of an agent's own words, which `riata-hub ca status` writes to an operator's terminal."""


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

    async def run(self) -> None:
        while True:
            lesson = self._lesson()
            if lesson is not None:
                self._tell(lesson)
            await asyncio.sleep(self._interval_s)

    def _tell(self, lesson: Lesson) -> None:
        if len(self._asked) >= AT_ONCE:
            return
        digest = lesson.digest
        asked_of = collections.Counter(tunnel.identity.cluster_uid for tunnel in self._asked)
        for tunnel in self._due(digest):
            if len(self._asked) >= AT_ONCE:
                return
            uid = tunnel.identity.cluster_uid
            if asked_of[uid] >= OF_ONE_CLUSTER:
                continue
            asked_of[uid] += 1
            self._asked.add(tunnel)
            self._tasks.spawn(self._ask(tunnel, lesson, digest), name=f"ca-{tunnel.session_id}")

    def _due(self, digest: str) -> list[Tunnel]:
        """Who is to be asked, who has waited the longest first: those not asked of this lesson yet, by the age of their
        sessions, then the others as their time came. In any other order some hundred agents that never answer, or that
        come anew instead, would have all places for ever."""
        now = self._clock()
        due: list[tuple[float, Tunnel]] = []
        for tunnel in self._registry:
            trust = tunnel.trust
            since = trust.again_at if digest in {trust.told, trust.missed} else 0.0
            if since <= now and tunnel not in self._asked and tunnel.link.may_open:
                due.append((since, tunnel))
        due.sort(key=lambda each: (each[0], each[1].connected_at))
        return [tunnel for _, tunnel in due]

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
