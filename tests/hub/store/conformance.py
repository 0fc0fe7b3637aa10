"""What every store backend has to do. A backend's test module inherits `StoreConformance` and gives a `store` fixture.

The fixture `clock` is a settable wall clock that the store was opened with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from hub.store.interface import Store
from hub.store.model import (
    DOCUMENT_BYTES_MAX,
    Event,
    Key,
    Resource,
    RevisionConflict,
    StoreUnavailable,
    UnknownLease,
)


class SettableClock:
    """Wall clock of a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def draft(name: str, *, kind: str = "thing", cluster: str = "", **spec: object) -> Resource:
    return Resource(Key(kind, cluster, name), spec)


async def take(watch: AsyncIterator[tuple[Event, ...]], count: int) -> list[Event]:
    """The next `count` events, however they are batched."""
    events: list[Event] = []
    while len(events) < count:
        events.extend(await asyncio.wait_for(anext(watch), 30))
    return events


class StoreConformance:
    async def test_a_record_is_read_back_as_written(self, store: Store) -> None:
        spec = {"text": "é\u2028", "n": 1, "deep": {"list": [None, True, 1.5]}}
        made = await store.put(Resource(Key("thing", "c1", "a"), spec, {"phase": "new"}))
        assert await store.get(Key("thing", "c1", "a")) == made
        assert made.spec == spec
        assert made.status == {"phase": "new"}
        assert made.uid
        assert made.revision > 0

    async def test_the_clusters_that_have_records_of_a_kind(self, store: Store) -> None:
        for place in (draft("a"), draft("a", cluster="c1"), draft("b", cluster="c1"), draft("a", cluster="c2")):
            await store.put(place)
        await store.put(draft("a", kind="other", cluster="c3"))
        assert await store.clusters_of("thing") == {"", "c1", "c2"}
        await store.delete(Key("thing", "c2", "a"))
        assert await store.clusters_of("thing") == {"", "c1"}
        assert await store.clusters_of("nothing") == frozenset()

    async def test_absent_is_none(self, store: Store) -> None:
        assert await store.get(Key("thing", "", "a")) is None
        assert await store.delete(Key("thing", "", "a")) is None

    async def test_creation_needs_absence(self, store: Store) -> None:
        first = await store.put(draft("a"))
        with pytest.raises(RevisionConflict) as caught:
            await store.put(draft("a"))
        assert (caught.value.expected, caught.value.actual) == (0, first.revision)

    async def test_update_needs_the_current_revision(self, store: Store) -> None:
        first = await store.put(draft("a", n=1))
        second = await store.put(Resource(first.key, {"n": 2}, {}, first.uid, first.revision))
        assert second.revision > first.revision
        assert second.uid == first.uid
        with pytest.raises(RevisionConflict):
            await store.put(Resource(first.key, {"n": 3}, {}, first.uid, first.revision))
        assert (await store.get(first.key)) == second

    async def test_update_of_a_deleted_record_conflicts(self, store: Store) -> None:
        first = await store.put(draft("a"))
        await store.delete(first.key)
        with pytest.raises(RevisionConflict):
            await store.put(first)

    async def test_delete_may_need_the_current_revision(self, store: Store) -> None:
        first = await store.put(draft("a"))
        with pytest.raises(RevisionConflict):
            await store.delete(first.key, revision=first.revision + 1)
        deleted = await store.delete(first.key, revision=first.revision)
        assert deleted is not None
        assert deleted > first.revision
        with pytest.raises(RevisionConflict):
            await store.delete(first.key, revision=first.revision)

    async def test_made_anew_is_another_record(self, store: Store) -> None:
        first = await store.put(draft("a"))
        await store.delete(first.key)
        assert (await store.put(draft("a"))).uid != first.uid

    async def test_list_is_of_one_kind_ordered_and_consistent(self, store: Store) -> None:
        for name in ("b", "a"):
            await store.put(draft(name, cluster="c2"))
            await store.put(draft(name, cluster="c1"))
        last = await store.put(draft("z", kind="other"))
        listing = await store.list("thing")
        assert [(item.key.cluster, item.key.name) for item in listing.items] == [
            ("c1", "a"), ("c1", "b"), ("c2", "a"), ("c2", "b"),
        ]  # fmt: skip
        assert listing.revision == last.revision
        assert [item.key.name for item in (await store.list("thing", cluster="c1")).items] == ["a", "b"]
        assert (await store.list("nothing")).items == ()

    async def test_one_winner_of_a_race(self, store: Store) -> None:
        results = await asyncio.gather(*(store.put(draft("a", n=n)) for n in range(50)), return_exceptions=True)
        assert len([result for result in results if isinstance(result, Resource)]) == 1
        assert len([result for result in results if isinstance(result, RevisionConflict)]) == 49

    @pytest.mark.parametrize("spec", [{"x": object()}, {"x": float("nan")}, {"x": "\ud800"}, ["list"], {"x": {1, 2}}])
    async def test_only_json_objects_are_stored(self, store: Store, spec: object) -> None:
        with pytest.raises(ValueError, match="document"):
            await store.put(Resource(Key("thing", "", "a"), spec))  # type: ignore[arg-type]
        assert await store.get(Key("thing", "", "a")) is None

    async def test_big_documents_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="more than"):
            await store.put(draft("a", blob="x" * DOCUMENT_BYTES_MAX))

    async def test_watch_repeats_the_past_and_goes_on(self, store: Store) -> None:
        first = await store.put(draft("a", n=1))
        second = await store.put(Resource(first.key, {"n": 2}, {}, first.uid, first.revision))
        watch = store.watch(first.revision)
        assert await take(watch, 1) == [Event(second, False)]
        deleted = await store.delete(first.key)
        (event,) = await take(watch, 1)
        assert event.is_deleted
        assert event.revision == deleted
        assert event.resource.spec == {"n": 2}
        assert event.resource.uid == first.uid

    async def test_watch_from_a_listing_has_no_gap_under_writes(self, store: Store) -> None:
        await store.put(draft("before"))
        listing = await store.list("thing")
        watch = store.watch(listing.revision)
        writes = asyncio.gather(*(store.put(draft(f"n{n}")) for n in range(100)))
        events = await take(watch, 100)
        await writes
        assert {event.resource.key.name for event in events} == {f"n{n}" for n in range(100)}
        revisions = [event.revision for event in events]
        assert revisions == sorted(set(revisions))

    async def test_watch_can_be_limited_to_kinds(self, store: Store) -> None:
        watch = store.watch(0, kinds=frozenset({"other"}))
        await store.put(draft("a"))
        wanted = await store.put(draft("b", kind="other"))
        assert await take(watch, 1) == [Event(wanted, False)]

    async def test_watchers_are_independent(self, store: Store) -> None:
        first, second = store.watch(0), store.watch(0)
        await store.put(draft("a"))
        assert await take(first, 1) == await take(second, 1)

    async def test_a_lease_takes_its_records_with_it(self, store: Store, clock: SettableClock) -> None:
        lease = await store.grant_lease(30.0)
        bound = await store.put(draft("bound"), lease=lease)
        free = await store.put(draft("free"))
        watch = store.watch(free.revision)
        clock.now += 29
        await store.keep_lease(lease)
        clock.now += 29
        await store.keep_lease(lease)
        assert await store.get(bound.key) is not None
        clock.now += 31
        await store.grant_lease(30.0)
        (event,) = await take(watch, 1)
        assert (event.resource.key, event.is_deleted) == (bound.key, True)
        assert await store.get(free.key) is not None
        with pytest.raises(UnknownLease):
            await store.keep_lease(lease)
        with pytest.raises(UnknownLease):
            await store.put(draft("late"), lease=lease)

    async def test_a_short_lease_expires_by_itself(self, store: Store, clock: SettableClock) -> None:
        watch = store.watch(0)
        lease = await store.grant_lease(0.01)
        clock.now += 0.02
        with contextlib.suppress(UnknownLease):
            await store.put(draft("bound"), lease=lease)
            assert [event.is_deleted for event in await take(watch, 2)] == [False, True]

    async def test_revoking_a_lease_ends_it_now(self, store: Store) -> None:
        lease = await store.grant_lease(30.0)
        bound = await store.put(draft("bound"), lease=lease)
        await store.revoke_lease(lease)
        await store.revoke_lease(lease)
        assert await store.get(bound.key) is None

    async def test_a_put_without_the_lease_frees_the_record(self, store: Store) -> None:
        lease = await store.grant_lease(30.0)
        bound = await store.put(draft("bound"), lease=lease)
        await store.put(bound)
        await store.revoke_lease(lease)
        assert await store.get(bound.key) is not None

    async def test_a_lease_has_a_length(self, store: Store) -> None:
        with pytest.raises(ValueError, match="longer than 0"):
            await store.grant_lease(0.0)

    async def test_a_cancelled_write_leaves_the_store_usable(self, store: Store) -> None:
        task = asyncio.get_running_loop().create_task(store.put(draft("a")))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.put(draft("b"))
        assert await store.get(Key("thing", "", "b")) is not None

    async def test_after_close_everything_says_so(self, store: Store) -> None:
        watch = store.watch(0)
        waiting = asyncio.get_running_loop().create_task(anext(watch))
        await asyncio.sleep(0.05)
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(waiting, 30)
        for call in (store.get(Key("thing", "", "a")), store.list("thing"), store.put(draft("a"))):
            with pytest.raises(StoreUnavailable):
                await call

    @pytest.mark.parametrize(
        "key", [("Thing", "", "a"), ("thing", "", ""), ("thing", "a/b", "x"), ("thing", "", "a\n")]
    )
    def test_keys_are_checked(self, key: tuple[str, str, str]) -> None:
        with pytest.raises(ValueError, match="bad"):
            Key(*key)
