"""hub/tunnel/registry.py: live tunnels by cluster."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import weakref
from typing import cast

import pytest

from hub.auth.agents import AgentIdentity, Challenge
from hub.auth.rotation import ProvenSession
from hub.auth.standing import Fault
from hub.route import Reason
from hub.tunnel.lastseen import KEEP
from hub.tunnel.registry import DRAINING_MAX, INSTANCES_MAX, ClusterFacts, Refusal, Registry, Tunnel, may_serve
from proto.aio.link import Link
from proto.errors import Code

EPOCH = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)


class FakeLink:
    """As much of a link as the registry touches."""

    def __init__(self) -> None:
        self.is_open = True
        self.is_draining = False
        self.has_left = False
        self.rtt_s = 0.01
        self.last_received_at = 0.0
        self.streams = 2
        self.queued_bytes = 0
        self.unanswered_ping_at: float | None = None
        self.closed_with: Code | None = None
        self.drained_with: float | None = None
        self.asked_back_in = -1.0

    @property
    def may_open(self) -> bool:
        return self.is_open and not self.has_left

    def close(self, code: Code, text: str = "") -> None:
        self.is_open = False
        self.closed_with = code

    def send_drain(self, deadline_s: float, code: Code, text: str, *, retry_s: float) -> None:
        self.drained_with = deadline_s
        self.asked_back_in = retry_s


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.registry = Registry(lambda: self.now, lambda: EPOCH)

    def tunnel(
        self,
        instance: int = 1,
        epoch: int = 1,
        *,
        cluster: str = "c1",
        credential: str = "k",
        link: FakeLink | None = None,
    ) -> tuple[Tunnel, FakeLink]:
        link = link or FakeLink()
        tunnel = Tunnel(
            identity=AgentIdentity(f"uid-{cluster}", cluster, credential, "cluster"),
            instance=bytes([instance]) * 16,
            epoch=epoch,
            link=cast(Link, link),
            address="1.2.3.4:5",
            version="0.1",
            cluster=ClusterFacts("v1.37"),
            connected_at=EPOCH,
            proven=ProvenSession(
                AgentIdentity(f"uid-{cluster}", cluster, credential, "cluster"),
                Challenge("hub-1", b"n" * 32, "x"),
                bytes([instance]) * 16,
                epoch,
                b"key",
            ),
            session_id=f"s{instance}-{epoch}",
        )
        self.registry.add(tunnel)
        return tunnel, link


def test_pick_and_remove() -> None:
    rig = Rig()
    assert rig.registry.pick("uid-c1").route is None
    tunnel, link = rig.tunnel()
    assert rig.registry.pick("uid-c1").route is cast(Link, link)
    assert (rig.registry.has_route("uid-c1"), rig.registry.has_route("uid-c2")) == (True, False)
    assert rig.registry.pick("uid-c2").route is None
    assert rig.registry.pick("uid-c1", without=(cast(Link, link),)).route is None
    assert rig.registry.lost_at("uid-c1") is None
    rig.registry.remove(tunnel)
    rig.registry.remove(tunnel)
    assert rig.registry.pick("uid-c1").route is None
    assert rig.registry.lost_at("uid-c1") == 100.0
    assert rig.registry.lost_when("uid-c1") == EPOCH


@pytest.mark.parametrize("fault", ["closed", "draining", "dead"])
def test_a_single_tunnel_must_be_usable(fault: str) -> None:
    rig = Rig()
    _, link = rig.tunnel()
    link.is_open = fault != "closed"
    link.is_draining = link.has_left = fault == "draining"
    link.unanswered_ping_at = 95.0 if fault == "dead" else None
    assert rig.registry.pick("uid-c1").route is None


def test_a_spared_tunnel_outlives_its_cluster_and_key_until_it_is_cut() -> None:
    rig = Rig()
    tunnel, link = rig.tunnel()
    _, other = rig.tunnel(2)
    assert rig.registry.spare("uid-c2", "01" * 16) is None
    assert rig.registry.spare("uid-c1", "03" * 16) is None
    assert rig.registry.spare("uid-c1", "01" * 16) is tunnel
    rig.registry.cut(cluster_uid="uid-c1", code=Code.REVOKED)
    rig.registry.cut(credential_id="k", code=Code.REVOKED)
    rig.registry.cut_faulty(lambda proven: Fault(Code.UNAUTHENTICATED, "the key is gone"))
    assert (link.is_open, other.closed_with) == (True, Code.REVOKED)
    rig.registry.cut_spared(tunnel, Code.REVOKED)
    assert link.closed_with is Code.REVOKED


def test_a_node_agent_that_may_not_serve_is_not_spared_with_an_instance_id_that_it_copied() -> None:
    """A clean-up names who deleted the cluster, and believes the answers: only who may serve carries it."""
    rig = Rig()
    tunnel, _ = rig.tunnel()
    rig.registry.remove(tunnel)  # the cluster agent's session is another worker's
    node = dataclasses.replace(tunnel.identity, role="node", node="n1", credential_id="c1:n1")
    thief = dataclasses.replace(tunnel, identity=node)
    rig.registry.add(thief)
    assert rig.registry.spare("uid-c1", "01" * 16) is None
    rig.registry.remove(thief)
    chosen = dataclasses.replace(tunnel, identity=dataclasses.replace(node, is_fallback=True))
    rig.registry.add(chosen)
    assert rig.registry.spare("uid-c1", "01" * 16) is chosen


def test_a_draining_agent_counts_as_lost_just_now() -> None:
    """P2: its successor is on the way, so kubectl may repeat what was not delivered."""
    rig = Rig()
    _, link = rig.tunnel()
    rig.now = 500.0
    assert rig.registry.lost_at("uid-c1") is None
    link.is_draining = link.has_left = True
    assert rig.registry.lost_at("uid-c1") == 500.0


def test_a_session_that_we_drain_serves_until_its_replacement_is_there_and_keeps_its_streams() -> None:
    """Its stream ids run out: nothing that it carries may be cut for that."""
    rig = Rig()
    _, old = rig.tunnel(epoch=1)
    old.is_draining = True
    assert rig.registry.pick("uid-c1").route is cast(Link, old)
    _, new = rig.tunnel(epoch=2)
    assert rig.registry.pick("uid-c1").route is cast(Link, new)
    assert old.closed_with is None
    assert rig.registry.cut(cluster_uid="uid-c1", code=Code.REVOKED) == 2


def test_an_exec_outlives_two_sessions_that_follow_each_other() -> None:
    rig = Rig()
    _, with_exec = rig.tunnel(epoch=1)
    with_exec.is_draining = True
    _, next_one = rig.tunnel(epoch=2)
    next_one.is_draining = True
    rig.tunnel(epoch=3)
    assert (with_exec.closed_with, next_one.closed_with) == (None, None)


def test_an_agent_that_drains_session_after_session_holds_a_few() -> None:
    """The attack: connect, announce a drain that never ends, connect with the next epoch, with one credential."""
    rig = Rig()
    links = []
    for epoch in range(1, 51):
        links.append(rig.tunnel(epoch=epoch)[1])
        links[-1].is_draining = True
    kept = DRAINING_MAX + 1  # the newest has announced its end too, and nobody has come since
    assert [link.closed_with for link in links] == [Code.SUPERSEDED] * (50 - kept) + [None] * kept
    assert len(list(rig.registry)) == kept
    _, other = rig.tunnel(2)
    rig.tunnel(1, epoch=51)
    assert other.closed_with is None


def test_a_higher_epoch_supersedes_at_once() -> None:
    rig = Rig()
    old, old_link = rig.tunnel(epoch=1)
    _, new_link = rig.tunnel(epoch=2)
    assert old_link.closed_with is Code.SUPERSEDED
    assert rig.registry.pick("uid-c1").route is cast(Link, new_link)
    rig.registry.remove(old)
    assert rig.registry.pick("uid-c1").route is cast(Link, new_link)


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_old_or_equal_epoch_is_refused(epoch: int) -> None:
    rig = Rig()
    _, link = rig.tunnel(epoch=2)
    with pytest.raises(Refusal) as caught:
        rig.tunnel(epoch=epoch)
    assert caught.value.code is Code.SUPERSEDED
    assert link.closed_with is None


def test_instances_of_a_cluster_are_bounded() -> None:
    rig = Rig()
    for instance in range(INSTANCES_MAX):
        rig.tunnel(instance)
    with pytest.raises(Refusal) as caught:
        rig.tunnel(INSTANCES_MAX)
    assert caught.value.code is Code.OVERLOADED
    rig.tunnel(0, epoch=2)
    rig.tunnel(INSTANCES_MAX, cluster="c2")


def test_the_same_instance_of_two_clusters_are_two_tunnels() -> None:
    rig = Rig()
    _, one = rig.tunnel(1, cluster="c1")
    rig.tunnel(1, epoch=5, cluster="c2")
    assert one.closed_with is None


def test_cut_by_cluster_and_by_credential() -> None:
    rig = Rig()
    _, one = rig.tunnel(1, credential="k1")
    _, two = rig.tunnel(2, credential="k2")
    _, three = rig.tunnel(1, cluster="c2", credential="k1")
    assert rig.registry.cut(credential_id="k1", code=Code.REVOKED) == 2
    assert (one.closed_with, two.closed_with, three.closed_with) == (Code.REVOKED, None, Code.REVOKED)
    assert rig.registry.cut(cluster_uid="uid-c1", code=Code.REVOKED) == 2
    assert two.closed_with is Code.REVOKED
    assert rig.registry.cut(code=Code.REVOKED) == 0


def test_status_and_iteration_and_drain() -> None:
    rig = Rig()
    tunnel, link = rig.tunnel()
    rig.now = 103.0
    link.last_received_at = 101.0
    (status,) = rig.registry.status("uid-c1")
    assert (status.role, status.instance, status.address) == ("cluster", "01" * 16, "1.2.3.4:5")
    assert (status.last_received_age_s, status.rtt_s, status.streams) == (2.0, 0.01, 2)
    assert rig.registry.status("uid-c2") == []
    assert list(rig.registry) == [tunnel]
    rig.registry.drain(5.0)
    assert link.drained_with == 5.0


def test_a_hub_that_leaves_asks_its_agents_back_over_a_while() -> None:
    rig = Rig()
    links = [rig.tunnel(cluster=f"c{number}")[1] for number in range(200)]
    dice = iter([number / 200 for number in range(200)])
    rig.registry.drain(0.0, lambda: next(dice))
    assert [link.asked_back_in for link in links] == [number / 200 * 4.0 for number in range(200)]


def test_node_tunnels_are_listed_and_cut_and_never_chosen() -> None:
    rig = Rig()
    node = AgentIdentity("uid-c1", "c1", "c1:n1", "node", node="n1", expires_at=500.0)
    tunnel, link = rig.tunnel()
    rig.registry.remove(tunnel)
    assert rig.registry.lost_at("uid-c1") is not None
    proven = ProvenSession(node, Challenge("hub-1", b"", "x"), b"", 1, b"", 500.0)
    made = dataclasses.replace(tunnel, identity=node, proven=proven)
    rig.registry.add(made)
    assert rig.registry.pick("uid-c1").route is None
    assert [(status.role, status.node) for status in rig.registry.status("uid-c1")] == [("node", "n1")]
    assert rig.registry.cut_faulty(lambda proven: None) == 0
    assert rig.registry.cut_faulty(lambda proven: Fault(Code.UNAUTHENTICATED, "expired")) == 1
    assert link.closed_with is Code.UNAUTHENTICATED
    lost = rig.registry.lost_at("uid-c1")
    rig.now += 1
    rig.registry.remove(made)
    assert rig.registry.lost_at("uid-c1") == lost  # no route was lost
    assert rig.registry.seen_when("c1:n1") == EPOCH
    assert list(rig.registry) == []


def as_node(
    tunnel: Tunnel, node: str, link: FakeLink | None = None, *, is_fallback: bool = True, **more: object
) -> Tunnel:
    identity = AgentIdentity("uid-c1", "c1", f"c1:{node}", "node", node=node, is_fallback=is_fallback)
    return dataclasses.replace(
        tunnel,
        identity=identity,
        link=cast(Link, link or FakeLink()),
        session_id=f"s-{node}",
        **more,  # type: ignore[arg-type]
    )


def test_an_eligible_node_agent_serves_while_no_cluster_agent_does() -> None:
    rig = Rig()
    tunnel, _ = rig.tunnel()
    other, worker, control = (as_node(tunnel, "n0", is_fallback=False), as_node(tunnel, "n1"),
                              as_node(tunnel, "n2", is_control_plane=True))  # fmt: skip
    for each in (other, worker, control):
        rig.registry.add(each)
    assert rig.registry.pick("uid-c1") is tunnel.candidate.only
    rig.registry.remove(tunnel)
    rig.now = 110.0
    decision = rig.registry.pick("uid-c1")
    assert (decision.route, decision.reason) == (control.link, Reason.FALLBACK_ABSENT)
    now = rig.registry.route_now("uid-c1")
    assert (now.role, now.node, now.reason, now.since) == ("node", "n2", Reason.FALLBACK_ABSENT, EPOCH)
    assert rig.registry.pick("uid-c1", without=(control.link,)).route is worker.link
    for each in (control, worker):
        rig.registry.remove(each)
    assert rig.registry.pick("uid-c1").reason is Reason.NONE_ELIGIBLE
    assert rig.registry.route_now("uid-c1").role == "none"
    assert rig.registry.lost_at("uid-c1") == 110.0  # of those that served, the fallback was lost last
    rig.registry.cut(cluster_uid="uid-c1", code=Code.REVOKED)
    assert rig.registry.lost_at("uid-c1") is None


def test_a_copied_instance_id_supersedes_nobody_of_another_node_or_role() -> None:
    rig = Rig()
    tunnel, link = rig.tunnel(epoch=1)
    victim = FakeLink()
    rig.registry.add(as_node(tunnel, "n1", victim))
    rig.registry.add(as_node(tunnel, "n2", epoch=9))
    assert (link.closed_with, victim.closed_with) == (None, None)
    rig.registry.add(as_node(tunnel, "n1", epoch=2))
    assert victim.closed_with is Code.SUPERSEDED


def test_node_agents_whose_rights_have_changed_come_back_as_what_they_are_now() -> None:
    rig = Rig()
    tunnel, link = rig.tunnel()
    one, two = FakeLink(), FakeLink()
    for name, node_link, is_fallback in (("n1", one, True), ("n2", two, False)):
        node = as_node(tunnel, name, node_link, is_fallback=is_fallback)
        rig.registry.add(dataclasses.replace(node, proven=dataclasses.replace(tunnel.proven, identity=node.identity)))
    changed = Fault(Code.CLOSED, "connect again")

    def fault(proven: ProvenSession) -> Fault | None:
        return changed if proven.identity.is_fallback else None

    assert rig.registry.cut_faulty(lambda proven: changed, cluster_uid="uid-c2") == 0
    assert rig.registry.cut_faulty(fault, cluster_uid="uid-c1") == 1
    assert rig.registry.cut_faulty(fault) == 0  # it has ended
    assert (one.closed_with, two.closed_with, link.closed_with) == (Code.CLOSED, None, None)


def test_a_role_that_is_not_known_here_never_serves() -> None:
    assert may_serve("cluster", is_fallback=False)
    assert may_serve("node", is_fallback=True)
    assert not may_serve("node", is_fallback=False)
    assert not may_serve("authn", is_fallback=True)


def test_the_bound_of_instances_is_for_each_node() -> None:
    rig = Rig()
    base, _ = rig.tunnel()
    rig.registry.remove(base)
    for number in range(2 * INSTANCES_MAX):
        node = AgentIdentity("uid-c1", "c1", f"c1:n{number % 2}", "node", node=f"n{number % 2}")
        rig.registry.add(dataclasses.replace(base, identity=node, instance=bytes([number]) * 16))
    for number in range(2):
        node = AgentIdentity("uid-c1", "c1", f"c1:n{number}", "node", node=f"n{number}")
        with pytest.raises(Refusal, match="the node has 5 agents"):
            rig.registry.check(node, b"z" * 16, 1)


def test_sessions_of_a_replaced_key_are_cut() -> None:
    rig = Rig()
    old, old_link = rig.tunnel(1)
    new, new_link = rig.tunnel(2)
    new.proven.key = b"new"
    replaced = Fault(Code.CLOSED, "replaced")
    assert rig.registry.cut_faulty(lambda proven: replaced if proven.key == b"key" else None) == 1
    assert (old_link.closed_with, new_link.closed_with) == (Code.CLOSED, None)
    assert old.proven.key == b"key"


def test_the_node_tunnels_of_a_cluster_are_bounded_together() -> None:
    """A cluster that invents nodes costs the hub so much and no more; a known instance still comes back."""
    registry = Registry(lambda: 0.0, lambda: EPOCH, node_tunnels_max=3)
    base, _ = Rig().tunnel()
    made = [as_node(base, f"n{number}", instance=bytes([number]) * 16) for number in range(4)]
    for tunnel in made[:3]:
        registry.add(tunnel)
    with pytest.raises(Refusal, match="node_tunnels_max") as caught:
        registry.add(made[3])
    assert (caught.value.code, caught.value.reason) == (Code.OVERLOADED, "too-many-nodes")
    registry.add(dataclasses.replace(made[0], epoch=2))
    other = dataclasses.replace(made[3], identity=dataclasses.replace(made[3].identity, cluster_uid="uid-c2"))
    registry.add(other)
    registry.add(base)  # of role cluster
    registry.remove(made[1])
    registry.add(made[3])


def test_a_full_cluster_keeps_no_tunnel_that_drains_beside_its_successor() -> None:
    registry = Registry(lambda: 0.0, lambda: EPOCH, node_tunnels_max=2)
    base, _ = Rig().tunnel()
    one, two = FakeLink(), FakeLink()
    registry.add(as_node(base, "n1", one))
    one.is_draining = True
    registry.add(as_node(base, "n1", two, epoch=2))
    assert one.closed_with is None  # there is room
    two.is_draining = True
    registry.add(as_node(base, "n1", epoch=3))
    assert (one.closed_with, two.closed_with) == (Code.SUPERSEDED, Code.SUPERSEDED)
    assert registry.node_tunnels("uid-c1") == 1


def test_what_is_remembered_of_those_who_left_is_bounded() -> None:
    rig = Rig()
    for number in range(KEEP + 10):
        tunnel, _ = rig.tunnel(credential=f"k{number}", cluster=f"c{number}")
        rig.registry.remove(tunnel)
    assert len(rig.registry._seen) == len(rig.registry._lost) == KEEP
    assert rig.registry.seen_when("k0") is None
    assert rig.registry.seen_when(f"k{KEEP + 9}") == EPOCH


def test_a_tunnel_that_has_ended_is_let_go_of_at_once() -> None:
    """Five thousand that are lost in one moment were 260,000 objects for the garbage collector, which stops all."""
    rig = Rig()
    tunnel, link = rig.tunnel()
    assert rig.registry.pick("uid-c1").route is cast(Link, link)
    gone = weakref.ref(link)
    gc.disable()
    try:
        rig.registry.remove(tunnel)
        del tunnel, link
        assert gone() is None
    finally:
        gc.enable()
