"""hub/store/backup.py: a copy that holds what was acknowledged."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
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


def taken(path: Path, to: Path) -> None:
    """Both ways there are, which come to the same."""
    with backup.nameless(path) as file:
        assert not list(path.parent.glob(".backup*"))  # whatever ends the process, nothing is left
        content = file.read()
    backup.write(path, to)
    assert to.read_bytes() == content


async def test_beside_a_hub_that_runs_it_has_the_last_write(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    try:
        for number in range(3):
            await store.put(Resource(Key("thing", "", f"t{number}"), {"n": number}))
        taken(tmp_path / "hub.db", tmp_path / "copy.db")
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
    backup.write(tmp_path / "killed" / "hub.db", tmp_path / "copy.db")
    assert await names(tmp_path / "copy.db") == ["acknowledged"]


@pytest.mark.parametrize("content", [b"junk" * 2000, None])
def test_what_is_no_database(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "hub.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"hub\.db cannot be copied"):
        backup.write(tmp_path / "hub.db", tmp_path / "copy.db")
    with pytest.raises(StoreError, match=r"damaged|cannot be copied"):
        backup.nameless(tmp_path / "hub.db")
    assert not list(tmp_path.glob(".backup*"))


async def test_a_damaged_database_is_no_backup(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    for number in range(200):
        await store.put(Resource(Key("thing", "", f"t{number}"), {"text": "x" * 500}))
    await store.close()
    content = bytearray((tmp_path / "hub.db").read_bytes())
    content[20_000:60_000] = bytes(40_000)
    (tmp_path / "hub.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|cannot be copied"):
        backup.write(tmp_path / "hub.db", tmp_path / "copy.db")
    with pytest.raises(StoreError, match=r"damaged|cannot be copied"):
        backup.nameless(tmp_path / "hub.db")
    assert not list(tmp_path.glob(".backup*"))


async def test_a_copy_beside_the_database_leaves_the_hub_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    await store.put(Resource(Key("thing", "", "a"), {}))
    await store.close()
    size = (tmp_path / "hub.db").stat().st_size
    free = shutil._ntuple_diskusage(10 * size, 9 * size, 2 * size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
    with pytest.raises(StoreError, match="have to be free there"):
        backup.nameless(tmp_path / "hub.db")


GROWN = """
import os, pathlib, resource, sys
from hub.store import backup
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
with backup.nameless(pathlib.Path(sys.argv[1])) as file:
    print(os.fstat(file.fileno()).st_size, peak() - before)
"""


async def test_the_copy_is_on_the_disk_instead_of_in_memory(tmp_path: Path) -> None:
    """A hub of thousands of clusters has hundreds of megabytes, and its container's limit is the backup's too."""
    store = await SqliteStore.open(tmp_path / "hub.db")
    for number in range(160):
        await store.put(Resource(Key("thing", "", f"t{number}"), {"text": "x" * 250_000}))
    await store.close()
    command = [sys.executable, "-c", GROWN, str(tmp_path / "hub.db")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, check=True, timeout=60
    )
    size, grown = map(int, done.stdout.split())
    assert size > 40_000_000
    assert grown < size / 2
