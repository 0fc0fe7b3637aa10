"""hub/workers/registry.py: two workers' registries and a main process that passes on what they say."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from hub.auth.agents import AgentIdentity
from hub.route import Reason
from hub.tunnel.registry import DRAINING_MAX, INSTANCES_MAX, Refusal, Tunnel
from hub.workers import messages
from hub.workers.hop import Hop
from hub.workers.messages import Opened
from hub.workers.registry import SharedRegistry
from proto.aio.link import Link
from proto.errors import Code
from proto.messages import HttpHead, StreamClass, StreamKind
from tests.hub.workers.fakes import GET, WALL, FakeLink, FakeOwner, until
from tests.hub.workers.registryrig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    for registry in made.crew.values():
        await registry.aclose()


async def test_a_request_hops_only_if_it_has_to(rig: Rig) -> None:
    _, link = rig.connect(2)
    rig.deliver()
    assert rig.crew[2].pick("uid-alpha").route is link
    hop = rig.crew[1].pick("uid-alpha").route
    assert isinstance(hop, Hop)
    assert rig.crew[1].pick("uid-alpha").route is hop
    assert rig.crew[1].pick("uid-alpha", without=(hop,)).route is None
    assert rig.crew[1].pick("uid-other").route is None
    owner = FakeOwner()
    hop.open(GET, owner, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=True)
    await until(lambda: link.made)
    half = link.made[0].owner
    assert half is not None
    half.head(HttpHead(status=200, headers=()))
    await until(lambda: owner.told)
    assert (owner.told, rig.hops) == ([200], 1)


async def test_a_hop_looks_through_no_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape of thousands of clusters makes one for each, and thousands of tunnels are there."""
    looks: list[SharedRegistry] = []
    monkeypatch.setattr(SharedRegistry, "__iter__", lambda self: iter(looks.append(self) or []))
    tunnel, _ = rig.connect(2)
    host = rig.crew[2].host
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    rig.crew[2].visited(tunnel.session_id, pairs[0][1])
    assert len(host) == 1
    rig.crew[2].remove(tunnel)
    rig.crew[2].visited(tunnel.session_id, pairs[1][1])  # it came too late, and is told so
    assert (len(host), looks) == (1, [])
    for ours, _ in pairs:
        ours.close()


async def test_the_own_tunnel_first_unless_it_is_silent_or_goes_away(rig: Rig) -> None:
    _, own = rig.connect(1, instance=1)
    tunnel, other = rig.connect(2, instance=2)
    rig.deliver()
    assert rig.crew[1].pick("uid-alpha").route is own
    own.unanswered_ping_at = rig.time
    rig.time += 3
    assert isinstance(rig.crew[1].pick("uid-alpha").route, Hop)
    own.unanswered_ping_at = None
    assert rig.crew[1].pick("uid-alpha").route is own
    own.is_draining = True
    assert isinstance(rig.crew[1].pick("uid-alpha").route, Hop)
    other.is_draining = True
    rig.crew[2].draining(tunnel)
    rig.deliver()
    assert rig.crew[1].pick("uid-alpha").route is own  # better than nothing until the successor is there


async def test_a_newer_session_supersedes_wherever_it_is(rig: Rig) -> None:
    _, old = rig.connect(1, epoch=1)
    rig.deliver()
    rig.connect(2, epoch=2)
    assert old.is_open
    rig.deliver()
    assert old.closed_with is Code.SUPERSEDED
    with pytest.raises(Refusal) as caught:
        rig.connect(1, epoch=2)
    assert caught.value.code is Code.SUPERSEDED


async def test_who_comes_to_another_worker_concerns_the_tunnels_of_its_cluster_alone(rig: Rig) -> None:
    """In a storm of reconnects thousands come, and thousands are here."""
    made, _ = rig.connect(1)
    bystander = WatchedLink()
    identity = AgentIdentity("uid-beta", "beta", "k", "cluster")
    rig.crew[1].add(dataclasses.replace(made, identity=identity, link=cast(Link, bystander), session_id="beside"))
    bystander.looks = 0
    rig.connect(2, epoch=2)
    rig.deliver()
    assert bystander.looks == 0


class WatchedLink(FakeLink):
    """Counts how often it is asked whether its agent goes away."""

    looks = 0

    @property
    def is_draining(self) -> bool:
        self.looks += 1
        return False

    @is_draining.setter
    def is_draining(self, is_draining: bool) -> None: ...


async def test_an_agent_that_goes_away_is_told_of_once_and_not_behind_its_end(rig: Rig) -> None:
    made, _ = rig.connect(1)
    rig.crew[1].draining(made)
    rig.crew[1].remove(made)
    rig.crew[1].draining(made)
    told = [type(news) for _, news in rig.mail]
    assert told == [Opened, messages.Draining, messages.Closed]


async def test_a_worker_keeps_a_few_sessions_of_an_instance_that_drains_each(rig: Rig) -> None:
    links = []
    for epoch in range(1, 11):
        made, link = rig.connect(1, epoch=epoch)
        link.on_end = functools.partial(rig.crew[1].remove, made)
        link.is_draining = True
        rig.deliver()
        links.append(link)
    kept = DRAINING_MAX + 1
    assert [link.is_open for link in links] == [False] * (10 - kept) + [True] * kept
    assert len(rig.crew[2].directory.of_cluster("uid-alpha")) == kept  # the others heard of the ends


async def test_nobody_sees_a_cluster_without_an_agent_while_one_session_follows_another(rig: Rig) -> None:
    rig.connect(1, epoch=1)
    rig.deliver()
    made, link = rig.connect(1, epoch=2)
    link.on_end = lambda: rig.crew[1].remove(made)
    rig.mail.clear()
    rig.connect(1, epoch=3)
    assert [type(news) for _, news in rig.mail] == [Opened, messages.Closed]


async def test_sessions_that_met_in_flight_leave_the_newest(rig: Rig) -> None:
    _, older = rig.connect(1, epoch=1)
    _, newer = rig.connect(2, epoch=2)  # neither has heard of the other
    rig.deliver()
    assert older.closed_with is Code.SUPERSEDED
    assert newer.is_open


async def test_instances_are_counted_over_all_workers(rig: Rig) -> None:
    for number in range(INSTANCES_MAX):
        rig.connect(1 + number % 2, instance=number)
        rig.deliver()
    with pytest.raises(Refusal) as caught:
        rig.connect(1, instance=99)
    assert caught.value.reason == "too-many-instances"
    rig.connect(2, instance=0, epoch=2)  # a known one may come back anywhere


async def test_a_tunnel_that_ends_is_lost_for_all(rig: Rig) -> None:
    made, _ = rig.connect(2)
    rig.deliver()
    assert rig.crew[1].lost_at("uid-alpha") is None
    rig.time = 107.0
    rig.crew[2].remove(made)
    rig.deliver()
    assert rig.crew[1].pick("uid-alpha").route is None
    assert (rig.crew[1].lost_at("uid-alpha"), rig.crew[1].lost_when("uid-alpha")) == (107.0, WALL)
    rig.crew[1].cut(cluster_uid="uid-alpha", code=Code.REVOKED)
    assert rig.crew[1].lost_at("uid-alpha") is None


async def test_a_worker_that_ends_takes_its_tunnels_along(rig: Rig) -> None:
    rig.connect(2)
    rig.deliver()
    rig.crew[1].gone(2)
    assert rig.crew[1].pick("uid-alpha").route is None
    assert rig.crew[1].lost_at("uid-alpha") == rig.time


async def test_the_api_shows_the_tunnels_of_all(rig: Rig) -> None:
    rig.connect(1, instance=1)
    made, other = rig.connect(2, instance=2)
    rig.deliver()
    assert {each.kubernetes for each in rig.crew[1].status("uid-alpha")} == {"k1"}
    made.cluster.kubernetes = "k2"  # it was upgraded
    rig.time += 1.0
    await rig.crew[1].refresh("uid-alpha")
    rig.time += 0.5
    shown = {status.instance[:2]: status for status in rig.crew[1].status("uid-alpha")}
    assert shown.keys() == {"01", "02"}
    assert (shown["02"].rtt_s, shown["02"].address, shown["02"].version) == (0.02, "10.0.0.1:1", "v1")
    assert shown["02"].last_received_age_s == pytest.approx(1.5)
    assert shown["02"].connected_since == WALL
    assert (shown["01"].kubernetes, shown["02"].kubernetes) == ("k1", "k2")
    rig.mains[1].is_lost = True
    await rig.crew[1].refresh()
    assert len(rig.crew[1].status("uid-alpha")) == 2
    assert other.is_open


async def test_who_asks_while_the_others_are_looked_at_waits_for_the_same_answer(rig: Rig) -> None:
    """Each look costs every other worker a turn as long as its list of tunnels."""
    rig.connect(2)
    rig.deliver()
    await asyncio.gather(*(rig.crew[1].refresh(uid) for uid in ("", "uid-alpha") for _ in range(1_000)))
    assert rig.mains[1].looks == 2
    rig.time += 3.0
    await rig.crew[1].refresh()
    (shown,) = rig.crew[1].status("uid-alpha")
    assert (rig.mains[1].looks, shown.last_received_age_s) == (3, 3.0)


async def test_the_pages_of_one_list_have_the_others_looked_at_once(rig: Rig) -> None:
    """Each page had all workers go through all their tunnels."""
    rig.connect(2)
    rig.deliver()
    for age_s in (0.0, 10.0, 10.0):
        await rig.crew[1].refresh(within_s=age_s)
        rig.time += 3.0
    await rig.crew[1].refresh("uid-alpha", within_s=10.0)  # of all has this one too
    (shown,) = rig.crew[1].status("uid-alpha")
    assert (rig.mains[1].looks, shown.last_received_age_s) == (1, 9.0)
    rig.time += 1.0
    await rig.crew[1].refresh(within_s=10.0)
    await rig.crew[1].refresh()
    assert rig.mains[1].looks == 3


async def test_an_answer_about_one_cluster_does_not_stand_in_for_all(rig: Rig) -> None:
    rig.connect(2)
    rig.deliver()
    await rig.crew[1].refresh("uid-alpha")
    await rig.crew[1].refresh(within_s=10.0)
    assert rig.mains[1].looks == 2


async def test_every_worker_says_when_an_agent_was_last_seen(rig: Rig) -> None:
    made, _ = rig.connect(2)
    rig.deliver()
    agent = made.identity.credential_id
    assert rig.crew[1].seen_when(agent) is None
    rig.wall += datetime.timedelta(seconds=30)
    rig.crew[2].remove(made)
    rig.deliver()
    assert [rig.crew[worker].seen_when(agent) for worker in (1, 2)] == [rig.wall] * 2
    rig.connect(2, instance=2)
    rig.deliver()
    rig.wall += datetime.timedelta(seconds=30)
    rig.crew[1].gone(2)
    assert rig.crew[1].seen_when(agent) == rig.wall


async def test_an_agent_of_a_worker_that_does_not_answer_was_seen_when_it_came(rig: Rig) -> None:
    rig.connect(2)
    rig.deliver()
    rig.wall += datetime.timedelta(seconds=30)
    (shown,) = rig.crew[1].status("uid-alpha")
    assert (shown.last_received_age_s, shown.rtt_s) == (30.0, None)
    await rig.crew[1].refresh("uid-alpha")
    (shown,) = rig.crew[1].status("uid-alpha")
    assert shown.last_received_age_s == 0.0


async def test_of_an_agent_that_goes_while_it_is_asked_about_nothing_is_kept(rig: Rig) -> None:
    """Its end is told once, and was told before the answer came: that was kept until somebody listed all clusters."""
    made, _ = rig.connect(2)
    rig.deliver()

    def leave() -> None:
        rig.crew[2].remove(made)
        rig.deliver()

    rig.mains[1].when_looked = leave
    await rig.crew[1].refresh("uid-alpha")
    assert not rig.crew[1]._lives


async def test_a_key_is_replaced_by_whoever_has_the_agent(rig: Rig) -> None:
    assert await rig.crew[1].rotate_elsewhere("agent") == "asked for agent"
    rig.mains[1].is_lost = True
    assert await rig.crew[1].rotate_elsewhere("agent") is None


async def test_the_node_tunnels_of_a_cluster_are_counted_over_all_workers(rig: Rig) -> None:
    rig.crew[1]._node_tunnels_max = 2
    for worker in (1, 2):
        made, _ = rig.connect(worker, instance=worker)
        rig.crew[worker].remove(made)
        rig.crew[worker].add(as_node(made, worker))
    rig.deliver()
    made, _ = rig.connect(1, instance=3)
    with pytest.raises(Refusal, match="node_tunnels_max"):
        rig.crew[1].add(as_node(made, 3))


async def test_a_node_agent_takes_the_place_of_its_session_at_another_worker(rig: Rig) -> None:
    """A silent cut leaves sessions that nobody knows to be dead, and a cluster at its bound has no room for others."""
    made, _ = rig.connect(1, instance=1)
    for number in (1, 2):
        rig.crew[2].add(dataclasses.replace(as_node(made, number), session_id=f"before-{number}"))
    rig.deliver()
    rig.crew[1]._node_tunnels_max = 2
    rig.crew[1].add(dataclasses.replace(as_node(made, 1), epoch=2, session_id="again"))
    with pytest.raises(Refusal, match="node_tunnels_max"):
        rig.crew[1].add(as_node(made, 3))


def as_node(made: Tunnel, number: int) -> Tunnel:
    identity = AgentIdentity("uid-alpha", "alpha", f"alpha:n{number}", "node", node=f"n{number}")
    return dataclasses.replace(made, identity=identity, session_id=f"node-{made.session_id}")


async def test_a_full_cluster_keeps_no_session_that_drains_beside_its_successor_elsewhere(rig: Rig) -> None:
    """Else a cluster would have its bound in each worker: every agent announces a drain, and comes back elsewhere."""
    made, link = rig.connect(1, instance=1)
    rig.crew[1].remove(made)
    rig.crew[1].add(as_node(made, 1))
    link.is_draining = True
    rig.deliver()
    other, _ = rig.connect(2, instance=2)
    for epoch, bound, ends in ((2, 2, None), (3, 2, Code.SUPERSEDED)):
        rig.mail.clear()
        later = dataclasses.replace(as_node(other, 1), instance=made.instance, epoch=epoch, session_id=f"later-{epoch}")
        rig.crew[2].add(later)
        (news,) = [each for _, each in rig.mail if isinstance(each, Opened)]
        rig.crew[1]._node_tunnels_max = bound
        rig.crew[1].opened(news)
        assert link.closed_with is ends


async def test_node_tunnels_of_other_workers_are_listed_bounded_and_never_hopped_to(rig: Rig) -> None:
    for instance in range(1, INSTANCES_MAX + 1):
        made, _ = rig.connect(2, instance=instance)
        rig.crew[2].remove(made)
        rig.crew[2].add(as_node(made, 1))
    rig.deliver()
    assert rig.crew[1].pick("uid-alpha").route is None
    listed = rig.crew[1].status("uid-alpha")
    assert {(status.role, status.node, status.credential_id) for status in listed} == {("node", "n1", "alpha:n1")}
    assert len(listed) == INSTANCES_MAX
    one = as_node(made, 1).identity
    with pytest.raises(Refusal, match="the node has 5 agents"):
        rig.crew[1].check(one, b"x" * 16, 1)
    rig.crew[1].check(as_node(made, 2).identity, b"x" * 16, 1)
    await rig.crew[1].refresh("uid-alpha")
    assert rig.crew[1].lost_at("uid-alpha") is not None  # by the tunnels of role cluster that were there before


def as_fallback(made: Tunnel, number: int, link: FakeLink) -> Tunnel:
    identity = dataclasses.replace(as_node(made, number).identity, is_fallback=True)
    return dataclasses.replace(
        made, identity=identity, link=link, session_id=f"fallback-{number}", is_control_plane=number == 2
    )  # type: ignore[arg-type]


async def test_the_fallback_of_another_worker_is_hopped_to_and_all_workers_choose_the_same(rig: Rig) -> None:
    made, own = rig.connect(1)
    links = {number: FakeLink(lambda: rig.time) for number in (1, 2)}
    rig.crew[1].add(as_fallback(made, 1, links[1]))
    rig.crew[2].add(as_fallback(made, 2, links[2]))
    rig.deliver()
    assert rig.crew[1].pick("uid-alpha").route is own
    assert rig.crew[2].pick("uid-alpha").reason is Reason.ONLY  # a hop to the cluster agent before any node agent
    rig.crew[1].remove(made)
    rig.deliver()
    hop, near = rig.crew[1].pick("uid-alpha"), rig.crew[2].pick("uid-alpha")
    assert isinstance(hop.route, Hop)
    assert hop.route.remote.opened.node == "n2"
    assert near.route is links[2]
    assert hop.reason is near.reason is Reason.FALLBACK_ABSENT
    assert rig.crew[1].route_now("uid-alpha").node == rig.crew[2].route_now("uid-alpha").node == "n2"
    assert rig.crew[1].pick("uid-alpha", without=(hop.route,)).route is links[1]
    owner = FakeOwner()
    hop.route.open(GET, owner, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=True)
    await until(lambda: links[2].made)
    rig.time += 60
    for number, link in links.items():
        (ended,) = [each for each in rig.crew[number] if each.link is link]  # type: ignore[comparison-overlap]
        rig.crew[number].remove(ended)
    rig.deliver()
    assert [rig.crew[number].pick("uid-alpha").reason for number in (1, 2)] == [Reason.NONE_CONNECTED] * 2
    assert [rig.crew[number].lost_at("uid-alpha") for number in (1, 2)] == [rig.time] * 2


async def test_a_copied_instance_id_supersedes_nobody_elsewhere(rig: Rig) -> None:
    made, own = rig.connect(1, epoch=1)
    link = FakeLink(lambda: rig.time)
    rig.crew[1].add(as_fallback(made, 1, link))
    rig.crew[2].add(dataclasses.replace(as_fallback(made, 2, FakeLink(lambda: rig.time)), epoch=9))
    rig.deliver()
    assert own.is_open
    assert link.is_open


async def test_a_hop_that_is_just_closing_since_it_was_idle_serves_and_one_whose_agent_goes_away_does_not(
    rig: Rig,
) -> None:
    made, link = rig.connect(2)
    rig.deliver()
    hop = rig.crew[1].pick("uid-alpha").route
    assert isinstance(hop, Hop)
    for number in (1, 2):
        owner = FakeOwner()
        hop.open(GET, owner, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=True)
        await until(lambda: len(link.made) == number)  # noqa: B023
        half = link.made[-1].owner
        assert half is not None
        half.head(HttpHead(status=204, headers=()))
        half.end()
        await until(lambda: owner.told[-1:] == ["end"])  # noqa: B023
        rig.time += 60
        hop.close_if_idle()
        rig.time += 60
        hop.close_if_idle()
        assert rig.crew[1].pick("uid-alpha").route is hop
    rig.crew[2].draining(made)
    rig.deliver()
    assert rig.crew[1].pick("uid-alpha").reason is Reason.NONE_ANSWERING
    assert rig.crew[1].lost_at("uid-alpha") == rig.time
