"""Agents are told of the hub's CAs once each, asked again when they did not learn, and bounded in number at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import math
from collections.abc import Iterator
from typing import Any, cast

import pytest

from hub import slices
from hub.catrust import AgentTrust, Lesson
from hub.tunnel.cateaching import AGAIN_S, AT_ONCE, OF_ONE_CLUSTER, REFUSED_S, UNKEPT_S, CaTeaching
from hub.tunnel.registry import Registry, Tunnel
from proto.aio.commands import TIMEOUT_S
from proto.aio.tasks import TaskGroup
from proto.commands import LEARN_CA, CaLearnt, Fields, LearnCa, Verb
from proto.errors import Code, StreamReset
from tests.hub.tunnel.test_registry import Rig
from tests.hub.turns import turns_of

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
FIRST, SECOND = Lesson(b"ca one", (ONE,)), Lesson(b"ca two", (ONE, TWO), is_between=True)


class School:
    """A registry, and agents that answer what `answer` says."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.rig = Rig()
        self.asked: list[LearnCa] = []
        self.answer: Fields | Exception = CaLearnt(pins=(ONE,), keeps=True)
        self.lesson: Lesson | None = FIRST
        self.gate = asyncio.Event()
        self.gate.set()
        self.silent: set[object] = set()
        """Links of agents that answer in no time that anybody waits."""
        self.looks = 0
        registry = cast(Registry, self)
        self.teaching = CaTeaching(
            registry, lambda: self.lesson, tasks, clock=lambda: self.rig.now, ask=self.ask, interval_s=0.0
        )

    def __iter__(self) -> Iterator[Tunnel]:
        """As the registry, counted."""
        self.looks += 1
        return iter(self.rig.registry)

    async def ask(self, link: object, verb: Verb, args: LearnCa) -> Any:
        assert verb is LEARN_CA
        self.asked.append(args)
        await self.gate.wait()
        if link in self.silent:
            raise TimeoutError
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def node(self, tunnel: Tunnel, name: str, *, age_s: float = 0.0) -> Tunnel:
        """A node agent of the cluster of `tunnel`, on its link."""
        identity = dataclasses.replace(tunnel.identity, role="node", node=name, credential_id=f"node:{name}")
        since = tunnel.connected_at - datetime.timedelta(seconds=age_s)
        node = dataclasses.replace(tunnel, identity=identity, trust=AgentTrust(), connected_at=since)
        self.rig.registry.add(node)
        return node

    async def time_out(self, tasks: TaskGroup) -> None:
        """Everybody who was asked answers now, or has let the time pass; the next ones are asked."""
        self.rig.now += TIMEOUT_S
        self.gate.set()
        self.gate.clear()
        await self.turns(tasks, 200)

    async def refuse(self, tasks: TaskGroup) -> None:
        """An agent comes, is told, and refuses."""
        self.rig.tunnel()
        self.answer = StreamReset("none of the CAs would stay", Code.REFUSED)
        await self.turns(tasks)

    async def turns(self, tasks: TaskGroup, number: int = 20) -> None:
        running = tasks.spawn(self.teaching.run(), name="run")
        for _ in range(number):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


async def test_each_agent_is_told_once_and_again_when_there_is_something_new() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        tunnel, _ = school.rig.tunnel()
        await school.turns(tasks)
        assert school.asked == [LearnCa(ca="ca one", pins=(ONE,))]
        assert (tunnel.trust.pins, tunnel.trust.keeps, tunnel.trust.problem) == ((ONE,), True, "")
        (shown,) = school.rig.registry.status("uid-c1")
        assert (shown.trusts, shown.keeps_trust) == ((ONE,), True)
        school.lesson = SECOND
        await school.turns(tasks)
        assert [args.ca for args in school.asked] == ["ca one", "ca two"]
        school.lesson = None
        await school.turns(tasks)
        assert len(school.asked) == 2


async def test_who_did_not_learn_is_asked_again_later_and_says_why() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        school.lesson = SECOND
        tunnel, link = school.rig.tunnel()
        for failure, says in ((StreamReset("no such verb", Code.REFUSED), "no such verb"), (TimeoutError(), "in time")):
            school.answer = failure
            await school.turns(tasks)
            assert says in tunnel.trust.problem
            school.rig.now += AGAIN_S
        assert len(school.asked) == 2
        link.has_left = True
        await school.turns(tasks)
        assert len(school.asked) == 2
        link.has_left = False
        school.answer = CaLearnt(pins=(ONE,), keeps=False)
        await school.turns(tasks)
        assert (tunnel.trust.problem, tunnel.trust.keeps) == ("", False)


async def test_who_refuses_while_nobody_waits_is_asked_rarely() -> None:
    """Behind a terminator that the hub does not know of: each agent would be asked, and logged, every 20 s for ever."""
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        await school.refuse(tasks)
        school.rig.now += REFUSED_S - 1.0
        await school.turns(tasks)
        assert len(school.asked) == 1
        school.rig.now += 1.0
        school.answer = TimeoutError()
        await school.turns(tasks)
        school.rig.now += AGAIN_S
        await school.turns(tasks)
        assert len(school.asked) == 3


async def test_a_rotation_asks_those_who_have_refused_at_once() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        await school.refuse(tasks)
        school.lesson = SECOND
        await school.turns(tasks)
        assert [args.ca for args in school.asked] == ["ca one", "ca two"]


async def test_a_ca_that_is_taken_back_is_forgotten_also_by_who_did_not_answer_once() -> None:
    """Told of the one CA since the last rotation, it took two questions; its session lasts for months."""
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        school.rig.tunnel()
        learnt, school.answer = school.answer, TimeoutError()
        await school.turns(tasks)
        school.answer = learnt
        school.rig.now += AGAIN_S
        for lesson in (FIRST, SECOND, FIRST):
            school.lesson = lesson
            await school.turns(tasks)
        assert [args.ca for args in school.asked] == ["ca one", "ca one", "ca two", "ca one"]


async def test_who_could_not_write_it_down_is_asked_again_unless_it_has_no_place() -> None:
    """Its API server restarted just then: it would not be ready for the last step until its session ended."""
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        tunnel, _ = school.rig.tunnel()
        node = school.node(tunnel, "n1")
        school.answer = CaLearnt(pins=(ONE,), keeps=False)
        await school.turns(tasks)
        school.answer = CaLearnt(pins=(ONE,), keeps=True)
        school.rig.now += UNKEPT_S - 1.0
        await school.turns(tasks)
        assert len(school.asked) == 2
        school.rig.now += 1.0
        await school.turns(tasks)
        assert (len(school.asked), tunnel.trust.keeps, node.trust.keeps) == (3, True, False)
        school.rig.now += REFUSED_S
        await school.turns(tasks)
        assert len(school.asked) == 3


async def test_few_are_asked_at_a_time() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        for number in range(AT_ONCE + 20):
            school.rig.tunnel(cluster=f"c{number}")
        school.gate.clear()
        await school.turns(tasks, 200)
        assert len(school.asked) == AT_ONCE
        school.gate.set()
        await school.turns(tasks, 200)
        assert len(school.asked) == AT_ONCE + 20


async def test_agents_of_one_cluster_that_never_answer_do_not_hold_up_another_one() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        for number in range(5):
            school.rig.tunnel(number, cluster="hostile")
        tunnel = next(iter(school.rig.registry))
        for number in range(AT_ONCE):
            school.node(tunnel, f"n{number}")
        other = school.node(school.rig.tunnel(cluster="honest")[0], "n1")
        school.gate.clear()
        await school.turns(tasks, 200)
        assert len(school.asked) == OF_ONE_CLUSTER + 2
        school.gate.set()
        await school.turns(tasks, 200)
        assert other.trust.pins == (ONE,)


async def test_agents_of_several_clusters_that_never_answer_cost_the_others_one_turn() -> None:
    """They were asked again, each time before who stands behind them."""
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        for cluster in ("one", "two", "three"):
            tunnel, link = school.rig.tunnel(cluster=cluster)
            school.silent.add(link)
            for number in range(100):
                school.node(tunnel, f"n{number}")
        honest = school.node(school.rig.tunnel(cluster="honest")[0], "n1")
        school.gate.clear()
        await school.turns(tasks, 200)
        for _ in range(math.ceil(len(list(school.rig.registry)) / AT_ONCE)):
            await school.time_out(tasks)
        assert honest.trust.pins == (ONE,)
        school.gate.set()


async def test_who_comes_anew_instead_of_answering_waits_behind_the_others() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        for number in range(AT_ONCE):
            _, link = school.rig.tunnel(cluster=f"c{number}")
            school.silent.add(link)
        honest = school.node(school.rig.tunnel(cluster="honest")[0], "n1", age_s=1.0)
        school.gate.clear()
        await school.turns(tasks, 200)
        await school.time_out(tasks)
        assert honest.trust.pins == (ONE,)
        school.gate.set()


async def test_who_is_to_be_asked_is_looked_for_again_only_when_all_of_them_were() -> None:
    """Each second all were, and put in order: a tenth of a second of the loop with 60,000."""
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        for number in range(3 * AT_ONCE):
            school.rig.tunnel(cluster=f"c{number}")
        school.gate.clear()
        await school.turns(tasks, 200)
        for _ in range(2):
            await school.time_out(tasks)
        assert (len(school.asked), school.looks) == (3 * AT_ONCE, 1)
        school.gate.set()


async def test_others_have_their_turn_while_the_next_ones_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        for number in range(1000):
            tunnel, _ = school.rig.tunnel(cluster=f"c{number}")
            tunnel.trust.told, tunnel.trust.again_at = FIRST.digest, math.inf
        monkeypatch.setattr(slices, "SLICE_S", 0.0)
        turns, _ = await turns_of(school.teaching._tell(FIRST))
        assert turns >= 9


async def test_who_has_left_when_its_turn_comes_is_not_asked() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        links = [school.rig.tunnel(cluster=f"c{number}")[1] for number in range(2 * AT_ONCE)]
        school.gate.clear()
        await school.turns(tasks, 200)
        links[-1].has_left = True
        await school.time_out(tasks)
        assert len(school.asked) == 2 * AT_ONCE - 1
        school.gate.set()


async def test_who_comes_meanwhile_does_not_wait_for_the_end_of_a_cluster_that_never_answers() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        tunnel, _ = school.rig.tunnel(cluster="hostile")
        for number in range(AT_ONCE):
            school.node(tunnel, f"n{number}")
        school.gate.clear()
        await school.turns(tasks, 200)
        assert len(school.asked) == OF_ONE_CLUSTER
        school.rig.tunnel(cluster="honest")
        await school.turns(tasks, 200)
        assert len(school.asked) == OF_ONE_CLUSTER + 1
        school.gate.set()


async def test_what_an_agent_says_of_its_trouble_cannot_play_with_an_operators_terminal() -> None:
    async with TaskGroup("test") as tasks:
        school = School(tasks)
        tunnel, _ = school.rig.tunnel()
        school.answer = StreamReset("no\n\x1b[2Jagents: 0\u202e" + "x" * 900, Code.REFUSED)
        await school.turns(tasks)
        assert tunnel.trust.problem.isprintable()
        assert len(tunnel.trust.problem) == 200
