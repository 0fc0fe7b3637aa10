"""hub/workers/directory.py: what the others own."""

from __future__ import annotations

import dataclasses
import datetime
from typing import cast

import msgspec

from hub.auth.agents import AgentIdentity
from hub.tunnel.lastseen import KEEP
from hub.tunnel.registry import ClusterFacts, Tunnel
from hub.workers.directory import Directory, loses
from hub.workers.messages import Opened
from proto.aio.link import Link

WALL = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)


def opened(session: str, *, worker: int = 2, epoch: int = 1, instance: int = 1, cluster: str = "c1") -> Opened:
    return Opened(
        *(worker, session, f"uid-{cluster}", cluster, "cluster", bytes([instance]) * 16, epoch, "a:1", "v", "k", 1.0),
        compresses=True,
        is_eligible=True,
    )


class Rig:
    def __init__(self) -> None:
        self.now = 5.0
        self.directory = Directory(lambda: self.now, lambda: WALL)

    def sessions(self, cluster: str = "uid-c1") -> list[str]:
        return [remote.opened.session_id for remote in self.directory.of_cluster(cluster)]


def test_tunnels_come_and_go() -> None:
    rig = Rig()
    first = rig.directory.opened(opened("a"))
    rig.directory.opened(opened("b"))
    assert rig.sessions() == ["a", "b"]
    assert rig.directory.lost_at("uid-c1") is None
    assert rig.directory.closed("a") is first
    assert not first.is_open
    assert rig.sessions() == ["b"]
    assert (rig.directory.lost_at("uid-c1"), rig.directory.lost_when("uid-c1")) == (5.0, WALL)
    assert rig.directory.closed("a") is None
    rig.directory.forget("uid-c1")
    assert rig.directory.lost_at("uid-c1") is None


def test_deleted_clusters_are_not_remembered_for_ever() -> None:
    """A worker learns of a deletion from the store, and of the end of a session from its owner, who learns it then."""
    rig = Rig()
    for number in range(KEEP + 5):
        rig.directory.opened(opened("a", cluster=f"c{number}"))
        rig.directory.forget(f"uid-c{number}")
        rig.directory.closed("a")
    assert rig.directory.lost_at("uid-c4") is None
    assert rig.directory.lost_at(f"uid-c{KEEP + 4}") == 5.0


def test_one_that_is_told_twice_is_one() -> None:
    rig = Rig()
    first = rig.directory.opened(opened("a"))
    rig.directory.draining("a")
    assert rig.directory.opened(opened("a")) is first
    assert first.is_draining
    rig.directory.closed("a")
    assert not rig.sessions()
    assert not rig.directory.serving("uid-c1")


def test_one_that_drains_is_lost_now() -> None:
    rig = Rig()
    remote = rig.directory.opened(opened("a"))
    rig.directory.draining("a")
    rig.directory.draining("unknown")
    rig.now = 9.0
    assert remote.is_draining
    assert rig.directory.lost_at("uid-c1") == 9.0


def test_one_whose_hop_told_of_its_end_first_is_lost_now() -> None:
    rig = Rig()
    remote = rig.directory.opened(opened("a"))
    remote.is_open = False
    rig.now = 9.0
    assert rig.directory.lost_at("uid-c1") == 9.0
    assert rig.directory.closed("a") is remote
    rig.now = 12.0
    assert rig.directory.lost_at("uid-c1") == 9.0


def test_a_worker_takes_its_own_tunnels_along() -> None:
    rig = Rig()
    rig.directory.opened(opened("a", worker=2))
    rig.directory.opened(opened("b", worker=3))
    rig.directory.opened(opened("c", worker=2, cluster="c2"))
    assert {remote.opened.session_id for remote in rig.directory.gone(2)} == {"a", "c"}
    assert rig.sessions() == ["b"]
    assert rig.sessions("uid-c2") == []
    assert len(rig.directory) == 1


class FakeLink:
    is_draining = False


def own(epoch: int, *, instance: int = 1, cluster: str = "c1", is_draining: bool = False) -> Tunnel:
    link = FakeLink()
    link.is_draining = is_draining
    identity = AgentIdentity(f"uid-{cluster}", cluster, "k", "cluster")
    return Tunnel(identity, bytes([instance]) * 16, epoch, cast(Link, link), "a:1", "v", ClusterFacts("k"), WALL, "own")


def test_the_higher_epoch_wins_whoever_hears_first() -> None:
    assert loses(own(1), 1, opened("a", epoch=2))
    assert not loses(own(2), 1, opened("a", epoch=1))
    assert not loses(own(1, instance=9), 1, opened("a", epoch=2))
    assert not loses(own(1, cluster="c2"), 1, opened("a", epoch=2))
    assert not loses(own(1, is_draining=True), 1, opened("a", epoch=2))


def test_a_copied_instance_id_supersedes_nobody_of_another_role_or_node() -> None:
    node = msgspec.structs.replace(opened("a", epoch=2), role="node", node="n1")
    assert not loses(own(1), 1, node)
    mine = dataclasses.replace(own(1), identity=AgentIdentity("uid-c1", "c1", "c1:n2", "node", node="n2"))
    assert not loses(mine, 1, node)
    assert loses(mine, 1, msgspec.structs.replace(node, node="n2"))


def test_equal_epochs_leave_exactly_one() -> None:
    assert [loses(own(1), 1, opened("a", worker=2)), loses(own(1), 2, opened("a", worker=1))] == [False, True]


def test_the_fallback_may_be_hopped_to_and_its_loss_counts() -> None:
    rig = Rig()
    rig.directory.opened(msgspec.structs.replace(opened("n"), role="node", node="n1"))
    assert [remote.opened.node for remote in rig.directory.serving("uid-c1")] == ["n1"]
    assert rig.sessions() == []
    rig.directory.closed("n")
    assert list(rig.directory.serving("uid-c1")) == []
    assert (rig.directory.lost_at("uid-c1"), rig.directory.lost_when("uid-c1")) == (5.0, None)
    rig.directory.forget("uid-c1")
    assert rig.directory.lost_at("uid-c1") is None


def test_tunnels_of_nodes_are_shown_and_are_no_route() -> None:
    rig = Rig()
    node = Opened(
        2, "n", "uid-c1", "c1", "node", b"i" * 16, 1, "a:1", "v", "k", 1.0, True, credential_id="c1:n1", node="n1"
    )
    rig.directory.opened(node)
    assert rig.sessions() == []
    assert [remote.opened.node for remote in rig.directory.nodes_of("uid-c1")] == ["n1"]
    assert len(rig.directory) == 1
    rig.directory.closed("n")
    assert list(rig.directory.nodes_of("uid-c1")) == []
    assert rig.directory.lost_at("uid-c1") is None  # no route was lost
