"""The records of clean-ups: each way through their states, also when two move at once and when one is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.clusters.cleanups import (
    ABANDONED_S,
    INTERRUPTED,
    LATE_S,
    LIMIT_S,
    NOT_CONNECTED,
    CleanUp,
    CleanUpIndex,
    CleanUps,
    State,
)
from hub.store.model import Key, Resource, StoreError
from hub.store.sqlite import SqliteStore
from proto.aio.tasks import TaskGroup
from tests.harness.records import captured
from tests.hub.store.conformance import SettableClock


class World:
    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.index = store, SettableClock(), CleanUpIndex()
        self.clean_ups = CleanUps(store, self.clock)

    async def begin(self, uid: str = "u1", *, instance: str = "ab") -> CleanUp:
        return await self.clean_ups.begin(uid=uid, cluster="berlin", user="ann", groups=("ops",), instance=instance)

    async def now(self, uid: str = "u1") -> CleanUp | None:
        self.index.reset((await self.store.list("clean-up")).items)
        return self.index.get(uid)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    yield World(store)
    await store.close()


async def test_with_an_agent_it_runs_and_without_it_is_pending(world: World) -> None:
    begun = await world.begin()
    assert await world.now() == begun
    assert (begun.state, begun.reason, begun.groups) == (State.RUNNING, "", ("ops",))
    away = await world.begin("u2", instance="")
    assert (away.state, away.reason) == (State.PENDING, NOT_CONNECTED)
    assert " -l riata.io/cluster-uid=u2;" in away.command


async def test_what_was_begun_and_not_done_may_begin_again(world: World) -> None:
    await world.begin()
    world.clock.now += 1
    again = await world.begin(instance="")
    assert await world.now() == again


async def test_of_two_that_begin_at_once_the_first_holds(world: World) -> None:
    one, other = await asyncio.gather(world.begin(), world.begin(instance=""))
    assert one == other == await world.now()


async def test_of_two_that_begin_one_behind_the_other_the_first_holds(world: World) -> None:
    """It runs already: replaced, its end were told to nobody, or with another reason."""
    one = await world.begin()
    world.clock.now += LIMIT_S / 2
    assert await world.begin(instance="") == one
    with captured("riata.audit") as logged:
        await world.clean_ups.pending(one, "the cluster refused")
    assert [event["reason"] for event in logged] == ["the cluster refused"]


@pytest.mark.parametrize("since", [-3600.0, 3600.0])
async def test_one_of_another_time_is_replaced_wherever_the_clock_was_set(world: World, since: float) -> None:
    await world.begin()
    world.clock.now += since
    again = await world.begin(instance="")
    assert await world.now() == again


async def test_a_record_that_cannot_be_read_is_in_nobodys_way(world: World) -> None:
    await world.store.put(Resource(Key("clean-up", "", "u1"), {}, {"state": "unheard of"}))
    begun = await world.begin()
    assert await world.now() == begun


async def test_it_ends_once(world: World) -> None:
    begun = await world.begin()
    with captured("riata.audit") as logged:
        await world.clean_ups.pending(begun, "first")
        await world.clean_ups.pending(begun, "second")
    assert [(event["event"], event["reason"]) for event in logged] == [("clean-up-pending", "first")]
    found = await world.now()
    assert found is not None
    assert (found.state, found.reason) == (State.PENDING, "first")
    assert await world.clean_ups.forget("u1") is not None
    await world.clean_ups.pending(found, "too late")
    assert await world.now() is None
    assert await world.clean_ups.forget("u1") is None


async def test_an_end_that_is_being_written_down_is_told_though_the_hub_stops(world: World) -> None:
    """The store does what it has accepted; the next start finds nothing that it would tell."""
    refused, removed = await world.begin(), await world.begin("u2")
    async with TaskGroup("hub") as tasks:
        with captured("riata.audit") as logged:
            tasks.spawn(world.clean_ups.pending(refused, "the cluster refused"), name="pending")
            tasks.spawn(world.clean_ups.done(removed, ["Deployment x"], []), name="done")
            await asyncio.sleep(0)
            await tasks.aclose()
    assert sorted(event["event"] for event in logged) == ["clean-up-done", "clean-up-pending"]
    assert await world.now("u2") is None
    found = await world.now()
    assert found is not None
    assert found.state is State.PENDING


async def test_an_end_that_cannot_be_written_down_is_the_callers(world: World) -> None:
    begun = await world.begin()
    await world.store.close()
    with captured("riata.audit") as logged, pytest.raises(StoreError):
        await world.clean_ups.pending(begun, "the cluster refused")
    assert logged == []


async def test_one_that_nobody_works_on_any_more_is_pending(world: World) -> None:
    begun = await world.begin()
    world.clock.now += LATE_S - 1
    await world.clean_ups.expire([begun], [])
    assert await world.now() == begun
    world.clock.now += 1
    with captured("riata.audit") as logged:  # nobody else will tell
        await world.clean_ups.expire([begun], [])
    (event,) = logged
    assert (event["event"], event["cluster_uid"], event["user"]) == ("clean-up-pending", "u1", "ann")
    assert event["reason"] == INTERRUPTED
    found = await world.now()
    assert found is not None
    assert found.state is State.PENDING
    world.clock.now += LATE_S
    await world.clean_ups.expire([found], [])
    assert await world.now() == found


async def test_a_deletion_that_waits_for_the_disk_keeps_its_record(world: World) -> None:
    begun = await world.begin()
    world.clock.now += LATE_S
    await world.clean_ups.expire([begun], ["u1"])
    await world.clean_ups.expire([begun], ["u1"])
    assert await world.now() == begun
    await world.clean_ups.expire([begun], [])  # the cluster is deleted, and whoever was to clean up is not there
    found = await world.now()
    assert found is not None
    assert found.state is State.PENDING


async def test_one_of_a_cluster_that_lives_is_of_no_deletion(world: World) -> None:
    begun = await world.begin()
    world.clock.now += ABANDONED_S
    await world.clean_ups.expire([begun], ["u1"])
    assert await world.now() is None
