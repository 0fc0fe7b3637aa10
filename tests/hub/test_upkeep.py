"""What goes on beside serving survives a store that fails for a while, and a hub starts behind a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub import upkeep
from hub.clusters.cleanups import INTERRUPTED, CleanUp, CleanUpIndex, CleanUps, State
from hub.clusters.records import Clusters
from hub.store.model import StoreUnavailable
from hub.store.sqlite import SqliteStore
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
