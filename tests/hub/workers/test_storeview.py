"""hub/workers/storeview.py: a worker's store passes what every store has to pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.store.index import Follower
from hub.store.interface import Store
from hub.store.model import Compacted, StoreUnavailable
from hub.store.sqlite import SqliteStore
from hub.workers import storeview
from hub.workers.channel import Channel
from hub.workers.messages import Done, Question, Reply
from hub.workers.packets import pair
from hub.workers.storeview import StoreView
from tests.hub.store.conformance import SettableClock, StoreConformance, draft


class Joined(StoreView):
    """The view, whose `close` also closes what is behind it: conformance asks what becomes of watchers then."""

    def __init__(self, channel: Channel, behind: SqliteStore) -> None:
        super().__init__(channel)
        self.behind = behind

    async def close(self) -> None:
        await self.behind.close()


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def store(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Joined]:
    behind = await SqliteStore.open(tmp_path / "hub.db", clock=clock)

    async def answer(question: Question) -> Reply:
        return await storeview.answer(behind, question) or Done()

    ours, theirs = pair()
    main = Channel(ours, "worker", on_question=answer, on_news=lambda news, sockets: None, on_lost=lambda: None)
    worker = Channel(theirs, "main", on_question=answer, on_news=lambda news, sockets: None, on_lost=lambda: None)
    yield Joined(worker, behind)
    await worker.aclose()
    await main.aclose()
    await behind.close()


class TestConformance(StoreConformance):
    pass


async def test_a_follower_that_fell_behind_is_told(store: Joined) -> None:
    for number in range(5):
        await store.put(draft(f"a{number}"))
    await store.behind.compact(1)
    with pytest.raises(Compacted):
        await anext(store.watch(0))


async def test_indexes_fail_when_the_main_process_ends(store: Joined) -> None:
    follower = Follower(store, [])
    await store._channel.aclose()
    with pytest.raises(StoreUnavailable):
        await follower.run()
    assert not follower.is_running


def test_a_view_is_a_store() -> None:
    check: type[Store] = StoreView
    assert check
