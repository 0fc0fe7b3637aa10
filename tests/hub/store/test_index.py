"""The follower: nothing missed, nothing brought back, and writers can wait for their own writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from hub.store.index import Follower
from hub.store.model import Event, Key, Resource, StoreUnavailable
from hub.store.sqlite import SqliteStore
from proto.aio.tasks import TaskGroup
from tests.hub.store.conformance import draft


class NameIndex:
    """The names of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.names: set[str] = set()
        self.resets = 0

    def reset(self, resources: Iterable[Resource]) -> None:
        self.resets += 1
        self.names = {resource.key.name for resource in resources}

    def apply(self, event: Event) -> None:
        (self.names.discard if event.is_deleted else self.names.add)(event.resource.key.name)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    yield store
    await store.close()


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    async with TaskGroup("test") as group:
        yield group


async def test_past_and_future_are_seen(store: SqliteStore, tasks: TaskGroup) -> None:
    index = NameIndex("thing")
    await store.put(draft("old"))
    follower = Follower(store, [index])
    await follower.load()
    assert index.names == {"old"}
    tasks.spawn(follower.run(), name="follower")
    made = await store.put(draft("new"))
    await follower.reached(made.revision)
    assert index.names == {"old", "new"}
    deleted = await store.delete(Key("thing", "", "old"))
    assert deleted is not None
    await follower.reached(deleted)
    assert index.names == {"new"}
    assert follower.applied == deleted


async def test_other_kinds_advance_it_too(store: SqliteStore, tasks: TaskGroup) -> None:
    follower = Follower(store, [NameIndex("thing")])
    await follower.load()
    tasks.spawn(follower.run(), name="follower")
    made = await store.put(draft("x", kind="other"))
    await asyncio.wait_for(follower.reached(made.revision), 30)


async def test_a_later_listing_is_not_undone_by_older_changes(store: SqliteStore, tasks: TaskGroup) -> None:
    """Between the listings of two kinds something of the second was made and deleted."""
    one, two = NameIndex("one"), NameIndex("two")
    first = await store.put(draft("a", kind="two"))
    follower = Follower(store, [one, two])
    await follower.load()
    await store.delete(first.key)
    two.reset(())
    follower._floors["two"] = first.revision + 1
    tasks.spawn(follower.run(), name="follower")
    last = await store.put(draft("b", kind="one"))
    await follower.reached(last.revision)
    assert (one.names, two.names) == ({"b"}, set())


async def test_a_compacted_log_leads_to_a_new_listing(store: SqliteStore, tasks: TaskGroup) -> None:
    index = NameIndex("thing")
    follower = Follower(store, [index])
    await follower.load()
    for n in range(5):
        await store.put(draft(f"n{n}"))
    await store.compact(keep=1)
    tasks.spawn(follower.run(), name="follower")
    last = await store.put(draft("last"))
    await asyncio.wait_for(follower.reached(last.revision), 30)
    assert index.names == {"n0", "n1", "n2", "n3", "n4", "last"}
    assert index.resets == 2


async def test_when_the_store_goes_away_waiters_are_told(store: SqliteStore, tasks: TaskGroup) -> None:
    follower = Follower(store, [NameIndex("thing")])
    await follower.load()
    tasks.spawn(follower.run(), name="follower")
    waiting = tasks.spawn(follower.reached(1000), name="waiting")
    await asyncio.sleep(0.05)
    assert follower.is_running
    await store.close()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(waiting, 30)
    assert not follower.is_running
    with pytest.raises(StoreUnavailable):
        await follower.reached(1000)


async def test_a_cancelled_waiter_harms_nobody(store: SqliteStore, tasks: TaskGroup) -> None:
    follower = Follower(store, [NameIndex("thing")])
    await follower.load()
    tasks.spawn(follower.run(), name="follower")
    waiting = tasks.spawn(follower.reached(1), name="waiting")
    await asyncio.sleep(0)
    waiting.cancel()
    await store.put(draft("a"))
    await asyncio.wait_for(follower.reached(1), 30)
