"""What goes on beside serving survives a store that fails for a while, and a hub starts behind a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import upkeep
from hub.auth.tokens import TokenIndex, TokenRecord, Tokens
from hub.clusters.cleanups import INTERRUPTED, CleanUp, CleanUpIndex, CleanUps, State
from hub.clusters.records import ClusterIndex, Clusters
from hub.store.index import Follower
from hub.store.model import Key, StoreUnavailable
from hub.store.sqlite import SqliteStore
from proto.aio.tasks import TaskGroup
from tests.harness.records import captured
from tests.hub.store.conformance import SettableClock


class Retention:
    """Fails the first time."""

    def __init__(self) -> None:
        self.calls = 0
        self.again = asyncio.Event()

    async def purge(self) -> int:
        self.calls += 1
        if self.calls == 1:
            raise StoreUnavailable("the disk is full")
        self.again.set()
        return 0

    def is_known(self, registrant: str) -> bool:
        return True


async def test_a_store_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "PURGE_S", 0.0)
    retention, store = Retention(), await SqliteStore.open(tmp_path / "hub.db")
    task = asyncio.ensure_future(upkeep.purge(retention, store))  # type: ignore[arg-type] # noqa: TID251
    await retention.again.wait()
    task.cancel()
    await asyncio.wait([task])
    await store.close()
    assert "could not be removed" in caplog.text


async def begun(clean_ups: CleanUps, uid: str, instance: str = "ab") -> CleanUp:
    return await clean_ups.begin(uid=uid, cluster="berlin", user="ann", groups=(), instance=instance)


async def test_a_clean_up_that_ran_is_pending_and_one_of_a_living_cluster_is_none(tmp_path: Path) -> None:
    store, clock = await SqliteStore.open(tmp_path / "hub.db"), SettableClock()
    alive, _, _ = await Clusters(store, clock).create(name="berlin", labels={}, created_by="ann")
    clean_ups = CleanUps(store, clock)
    await begun(clean_ups, alive.uid)
    await begun(clean_ups, "gone")
    await begun(clean_ups, "away", instance="")
    await upkeep.tidy(store)
    index = CleanUpIndex()
    index.reset((await store.list(index.kind)).items)
    assert {each.id: each.state for each in index} == {"gone": State.PENDING, "away": State.PENDING}
    found = index.get("gone")
    assert found is not None
    assert found.reason == INTERRUPTED
    await store.close()


class Family:
    """A stolen token, one that was made with it, one that was made with that, and another."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.index, self.clusters = store, TokenIndex(), ClusterIndex()
        self.tokens = Tokens(store, SettableClock())
        self.follower = Follower(store, [self.clusters, self.index])

    async def make(self) -> list[TokenRecord]:
        made: list[TokenRecord] = []
        for lineage in ((), (0,), (0, 1), ()):
            record, _, _ = await self.tokens.create(
                name="t",
                user="jane",
                lifetime_s=None,
                created_by="jane",
                lineage=tuple(made[number].id for number in lineage),
            )
            made.append(record)
        return made

    async def left(self) -> list[str]:
        return [item.key.name for item in (await self.store.list("token")).items]


class Failing(SqliteStore):
    """Deletes nothing the first time."""

    has_failed = False

    async def delete(self, key: Key, *, revision: int | None = None) -> int | None:
        if not self.has_failed:
            self.has_failed = True
            raise StoreUnavailable("the disk is full")
        return await super().delete(key, revision=revision)


async def resumed(family: Family, token_id: str, closed: int) -> None:
    """A hub that starts, until this token, closed at that revision, is so no more."""
    await family.follower.load()
    async with asyncio.timeout(5), TaskGroup("test") as tasks:
        tasks.spawn(family.follower.run(), name="follower")
        tasks.spawn(upkeep.resume_revocations(family.index, family.clusters, family.store), name="revocations")
        async for events in family.store.watch(closed):
            if any(event.is_deleted and event.resource.key.name == token_id for event in events):
                break


@pytest.mark.parametrize("kind", [SqliteStore, Failing])
async def test_a_revocation_with_descendants_that_a_crash_cut_short_is_completed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SqliteStore]
) -> None:
    """Also where the store fails at first."""
    monkeypatch.setattr(upkeep, "RESUME_S", 0.0)
    family = Family(await kind.open(tmp_path / "hub.db"))
    stolen, child, grandchild, other = await family.make()
    closed = await family.tokens.close(stolen.id)
    with captured("riata.audit") as logged:
        await resumed(family, stolen.id, closed)
    assert await family.left() == [other.id]
    assert [(each["event"], each["token_id"], each["user"], each["by"]) for each in logged] == [
        ("token-revoked", record.id, "jane", "hub:upkeep") for record in (child, grandchild)
    ]
    await family.store.close()


class Looks:
    """An index in which a token is closed after the first look."""

    def __init__(self) -> None:
        self.looks = 0
        self.looked_through: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> frozenset[str]:
        self.looks += 1
        return frozenset({"begun"} if self.looks > 2 else ())  # the start and the first look are two

    def __iter__(self) -> Iterator[TokenRecord]:
        if not self.looked_through.done():
            self.looked_through.set_result(self.looks)
        return iter(())


async def test_one_that_has_just_begun_is_left_to_who_answers_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller hears what was revoked."""
    monkeypatch.setattr(upkeep, "RESUME_S", 0.0)
    store, index = await SqliteStore.open(tmp_path / "hub.db"), Looks()
    async with TaskGroup("test") as tasks:
        resuming = upkeep.resume_revocations(index, ClusterIndex(), store)  # type: ignore[arg-type]
        tasks.spawn(resuming, name="revocations")
        assert await index.looked_through == 4
    await store.close()
