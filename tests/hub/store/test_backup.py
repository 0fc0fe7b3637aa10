"""hub/store/backup.py: a copy that holds what was acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.store import backup
from hub.store.model import Key, Resource, StoreError
from hub.store.sqlite import SqliteStore


async def names(path: Path) -> list[str]:
    store = await SqliteStore.open(path)
    try:
        return [item.key.name for item in (await store.list("thing")).items]
    finally:
        await store.close()


async def test_beside_a_hub_that_runs_it_has_the_last_write(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    try:
        for number in range(3):
            await store.put(Resource(Key("thing", "", f"t{number}"), {"n": number}))
        (tmp_path / "copy.db").write_bytes(backup.image(tmp_path / "hub.db"))
        await store.put(Resource(Key("thing", "", "later"), {}))
    finally:
        await store.close()
    assert await names(tmp_path / "copy.db") == ["t0", "t1", "t2"]
    assert await names(tmp_path / "hub.db") == ["later", "t0", "t1", "t2"]


async def test_of_a_hub_that_was_killed_too(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    await store.put(Resource(Key("thing", "", "acknowledged"), {}))
    (tmp_path / "killed").mkdir()
    for left in tmp_path.glob("hub.db*"):  # as a kill leaves them: the log has what the file has not
        (tmp_path / "killed" / left.name).write_bytes(left.read_bytes())
    await store.close()
    (tmp_path / "copy.db").write_bytes(backup.image(tmp_path / "killed" / "hub.db"))
    assert await names(tmp_path / "copy.db") == ["acknowledged"]


@pytest.mark.parametrize("content", [b"junk" * 2000, None])
def test_what_is_no_database(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "hub.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"hub\.db cannot be copied"):
        backup.image(tmp_path / "hub.db")


async def test_a_damaged_database_is_no_backup(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    for number in range(200):
        await store.put(Resource(Key("thing", "", f"t{number}"), {"text": "x" * 500}))
    await store.close()
    content = bytearray((tmp_path / "hub.db").read_bytes())
    content[20_000:60_000] = bytes(40_000)
    (tmp_path / "hub.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|cannot be copied"):
        backup.image(tmp_path / "hub.db")
