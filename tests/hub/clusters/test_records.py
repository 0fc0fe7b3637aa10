"""Cluster records: one name, one uid, and nothing survives a deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hub.auth.agents import AgentTokens
from hub.auth.grants import Grants
from hub.clusters.records import Cluster, ClusterIndex, Clusters
from hub.store.model import Event, Key, Listing, Resource
from hub.store.sqlite import SqliteStore
from tests.hub.auth.records import grant
from tests.hub.store.conformance import SettableClock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    yield store
    await store.close()


async def test_one_of_many_creators_wins_and_all_see_the_same(store: SqliteStore) -> None:
    clusters = Clusters(store, SettableClock())
    made = await asyncio.gather(*(clusters.create(name="a", labels={"n": "1"}, created_by=f"u{n}") for n in range(20)))
    assert len({cluster.uid for cluster, _, _ in made}) == 1
    assert [is_new for _, _, is_new in made].count(True) == 1


async def test_deletion_takes_what_was_bound_along(store: SqliteStore) -> None:
    clusters, clock = Clusters(store, SettableClock()), SettableClock()
    kept, _, _ = await clusters.create(name="kept", labels={}, created_by="x")
    doomed, _, _ = await clusters.create(name="doomed", labels={}, created_by="x")
    for cluster in (kept, doomed):
        await AgentTokens(store, clock).create(cluster_uid=cluster.uid, name="t", lifetime_s=None, created_by="x")
        await Grants(store).create(grant(cluster.name, cluster_uid=cluster.uid))
    await Grants(store).create(grant("every"))
    revision = await clusters.delete("doomed")
    assert revision is not None
    assert [item.key.cluster for item in (await store.list("agent-token")).items] == [kept.uid]
    listing = await store.list("grant")
    assert [item.key.name for item in listing.items] == ["every", "kept"]
    assert revision == listing.revision
    assert await clusters.delete("doomed") is None


async def test_a_crash_between_leaves_nothing_for_long(store: SqliteStore) -> None:
    clusters = Clusters(store, SettableClock())
    await Grants(store).create(grant("orphan", cluster_uid="uid-of-nothing"))
    assert await clusters.sweep() > 0
    assert (await store.list("grant")).items == ()
    assert await clusters.sweep() == 0


class Listed(SqliteStore):
    """Which kinds are listed of all clusters."""

    whole: list[str]

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        if cluster is None:
            self.whole.append(kind)
        return await super().list(kind, cluster=cluster)


async def test_a_deletion_does_not_read_what_all_other_clusters_have(tmp_path: Path) -> None:
    """The tables of a fleet's nodes are hundreds of megabytes as objects, and a worker gets them in one message."""
    store = await Listed.open(tmp_path / "hub.db")
    assert isinstance(store, Listed)
    store.whole = []
    clusters = Clusters(store, SettableClock())
    for name in ("kept", "doomed"):
        cluster, _, _ = await clusters.create(name=name, labels={}, created_by="x")
        await store.put(Resource(Key("node-table-part", cluster.uid, "agent.0"), {"tag": "t", "rows": []}))
    await clusters.delete("doomed")
    assert set(store.whole) == {"grant", "cluster"}
    assert len((await store.list("node-table-part")).items) == 1
    await store.close()


class Interrupted(SqliteStore):
    """Somebody else writes between two steps of a sweep: it has listed everything, and deletes next."""

    meanwhile: Callable[[], Awaitable[object]]

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        listing = await super().list(kind, cluster=cluster)
        if kind == "cluster":
            await self.meanwhile()
        return listing


async def test_a_grant_that_is_made_anew_during_a_sweep_stays(tmp_path: Path) -> None:
    store = await Interrupted.open(tmp_path / "hub.db")
    assert isinstance(store, Interrupted)
    grants, clusters = Grants(store), Clusters(store, SettableClock())
    alive, _, _ = await clusters.create(name="alive", labels={}, created_by="x")
    for name in ("anew", "deleted", "orphan"):
        await grants.create(grant(name, cluster_uid="uid-of-nothing"))

    async def meanwhile() -> None:
        for name in ("anew", "deleted"):
            await grants.delete(name)
        await grants.create(grant("anew", cluster_uid=alive.uid))

    store.meanwhile = meanwhile
    assert await clusters.sweep() > 0
    assert [item.key.name for item in (await store.list("grant")).items] == ["anew"]
    await store.close()


def stored(name: str, uid: str, labels: object = None) -> Resource:
    spec = {"labels": labels if labels is not None else {}, "createdAt": 1.0, "createdBy": "x"}
    return Resource(Key("cluster", "", name), spec, {}, uid, 1)


def test_the_index_knows_names_and_uids() -> None:
    lost: list[Cluster] = []
    index = ClusterIndex(lost.append)
    index.apply(Event(stored("b", "u1"), False))
    index.apply(Event(stored("a", "u2"), False))
    assert [cluster.name for cluster in index] == ["a", "b"]
    assert (index.uid_of("a"), index.name_of("u1"), len(index)) == ("u2", "b", 2)
    index.apply(Event(stored("b", "u1", {"new": "label"}), False))
    assert lost == []
    index.apply(Event(stored("b", "u1"), True))
    index.apply(Event(stored("b", "u3"), False))
    assert [cluster.uid for cluster in lost] == ["u1"]
    assert (index.name_of("u1"), index.by_uid("u3") is not None) == (None, True)
    index.reset([stored("c", "u4")])
    assert {cluster.uid for cluster in lost} == {"u1", "u2", "u3"}


def test_an_unreadable_record_is_no_cluster(caplog: pytest.LogCaptureFixture) -> None:
    index = ClusterIndex()
    index.apply(Event(Resource(Key("cluster", "", "a"), {"labels": 7}, {}, "u"), False))
    assert index.get("a") is None
    assert len(caplog.records) == 1
