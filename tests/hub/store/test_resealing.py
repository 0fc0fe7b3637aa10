"""Under a new key: everything, resumable, and never against somebody else's write."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.store.keyfile import EncryptionKey, KeyRing
from hub.store.model import Key, Resource, StoreUnavailable
from hub.store.resealing import CHECK, CHECK_FIELD, FIELDS, Progress, keys_in_use, reseal
from hub.store.sealed import Sealer, key_id_of
from hub.store.sqlite import SqliteStore

OLD, NEW = EncryptionKey.new(), EncryptionKey.new()
KINDS = {"s3-profile": ("secretKey", "token"), "event-sink": ("password",)}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    sealer = Sealer(KeyRing((OLD,)))
    for number in range(5):
        at = Key("s3-profile", "uid-a", f"p{number}")
        spec = {"bucket": "b", "secretKey": sealer.seal(at, "secretKey", f"secret-{number}".encode())}
        await store.put(Resource(at, spec))
    at = Key("event-sink", "", "s")
    await store.put(Resource(at, {"password": sealer.seal(at, "password", b"pw"), "none": None}))
    yield store
    await store.close()


async def all_of(store: SqliteStore) -> list[Resource]:
    return [item for kind in KINDS for item in (await store.list(kind)).items]


async def test_everything_is_brought_under_the_new_key_once(store: SqliteStore) -> None:
    both = Sealer(KeyRing((NEW, OLD)))
    assert await reseal(store, both, KINDS) == Progress(total=6, resealed=6, left=0)
    revision = (await store.list("s3-profile")).revision
    assert await reseal(store, both, KINDS) == Progress(total=6, resealed=0, left=0)
    assert (await store.list("s3-profile")).revision == revision
    only = Sealer(KeyRing((NEW,)))
    for number, item in enumerate((await store.list("s3-profile")).items):
        assert only.open(item.key, "secretKey", item.spec["secretKey"]) == f"secret-{number}".encode()
        assert item.spec["bucket"] == "b"
    assert keys_in_use(await all_of(store), KINDS) == {NEW.id: 6}


async def test_a_pass_that_was_cut_is_taken_up(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put, writes = store.put, 0

    async def dies(resource: Resource) -> Resource:
        nonlocal writes
        writes += 1
        if writes == 3:
            raise StoreUnavailable("killed")
        return await put(resource)

    both = Sealer(KeyRing((NEW, OLD)))
    with monkeypatch.context() as patched:
        patched.setattr(store, "put", dies)
        with pytest.raises(StoreUnavailable):
            await reseal(store, both, KINDS)
    assert keys_in_use(await all_of(store), KINDS) == {NEW.id: 2, OLD.id: 4}
    assert await reseal(store, both, KINDS) == Progress(total=6, resealed=4, left=0)


async def test_who_changes_a_record_meanwhile_wins(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put, old = store.put, Sealer(KeyRing((OLD,)))

    async def overtaken(resource: Resource) -> Resource:
        if resource.key.name == "p2":
            found = await store.get(resource.key)
            assert found is not None
            spec = {"secretKey": old.seal(found.key, "secretKey", b"changed")}
            await put(dataclasses.replace(found, spec=spec))
        return await put(resource)

    both = Sealer(KeyRing((NEW, OLD)))
    with monkeypatch.context() as patched:
        patched.setattr(store, "put", overtaken)
        assert await reseal(store, both, KINDS) == Progress(total=6, resealed=5, left=1)
    assert await reseal(store, both, KINDS) == Progress(total=6, resealed=1, left=0)
    found = await store.get(Key("s3-profile", "uid-a", "p2"))
    assert found is not None
    assert both.open(found.key, "secretKey", found.spec["secretKey"]) == b"changed"


async def test_what_cannot_be_opened_is_left_and_said(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    assert await reseal(store, Sealer(KeyRing((NEW,))), KINDS) == Progress(total=6, resealed=0, left=6)
    assert OLD.id in str([getattr(record, "reason", "") for record in caplog.records])
    assert keys_in_use(await all_of(store), KINDS) == {OLD.id: 6}


def test_the_check_counts_and_what_is_not_sealed_does_not() -> None:
    check = Sealer(KeyRing((OLD,))).seal(CHECK, CHECK_FIELD, b"riata")
    other = Resource(Key("hub", "", "self"), {CHECK_FIELD: check})
    assert key_id_of(check) == OLD.id
    assert keys_in_use([Resource(CHECK, {CHECK_FIELD: check}), other], FIELDS) == {OLD.id: 1}
