"""The SQLite backend: the conformance suite, and what only a file can get wrong."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.store import migrations, sqlite, statements
from hub.store.model import Compacted, Key, Resource, StoreError, StoreUnavailable
from hub.store.sqlite import SqliteStore
from proto.aio.tasks import TaskGroup
from tests.hub.store.conformance import SettableClock, StoreConformance, draft, take

ROOT = Path(__file__).parents[3]


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def store(tmp_path: Path, clock: SettableClock) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    yield store
    await store.close()


class TestConformance(StoreConformance):
    pass


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    made = await store.put(draft("a", n=1))
    await store.close()
    store = await SqliteStore.open(tmp_path / "hub.db")
    assert await store.get(made.key) == made
    assert (await store.put(draft("b"))).revision == made.revision + 1
    assert [event.resource.key.name for event in await take(store.watch(0), 2)] == ["a", "b"]
    await store.close()


class Busy(concurrent.futures.ThreadPoolExecutor):
    """A pool whose only thread is taken until `frees` is set; `asked` tells that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.frees, self.asked = threading.Event(), asyncio.Event()
        super().submit(self.frees.wait, 5)

    def submit(self, *args: Any, **more: Any) -> concurrent.futures.Future[Any]:
        self.asked.set()
        return super().submit(*args, **more)


async def test_a_write_in_the_instant_of_closing_is_refused(tmp_path: Path) -> None:
    """Before the worker thread gets to it: what came behind the end of the queue would wait for ever."""
    store = await SqliteStore.open(tmp_path / "hub.db")
    with Busy() as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        async with TaskGroup("test") as group:
            closing = group.spawn(store.close(), name="close")
            try:
                await threads.asked.wait()
                with pytest.raises(StoreUnavailable, match="closed"):
                    await store.put(draft("a"))
            finally:
                threads.frees.set()
            await closing


async def test_durability_is_not_traded_away(store: SqliteStore) -> None:
    def pragmas(connection: sqlite3.Connection) -> tuple[str, int]:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        return journal, synchronous

    assert await store._writer.submit(pragmas) == ("wal", 2)


async def test_the_file_is_for_its_owner_only(store: SqliteStore, tmp_path: Path) -> None:
    await store.put(draft("a"))
    files = list(tmp_path.iterdir())
    assert len(files) >= 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_second_process_is_kept_out(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="in use by another riata-hub"):
        await SqliteStore.open(tmp_path / "hub.db")


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    await store.close()
    with sqlite3.connect(tmp_path / "hub.db") as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (99)")
    connection.close()
    with pytest.raises(migrations.SchemaTooNew, match=r"schema version 99.*newer riata-hub"):
        await SqliteStore.open(tmp_path / "hub.db")


async def test_the_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "hub.db") as connection:
        connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        await SqliteStore.open(tmp_path / "hub.db")
    (tmp_path / "hub2.db").write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        await SqliteStore.open(tmp_path / "hub2.db")


async def test_an_interrupted_migration_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hub.db"
    broken = (*migrations.MIGRATIONS, ("CREATE TABLE extra (x TEXT) STRICT", "NOT SQL"))
    monkeypatch.setattr(migrations, "MIGRATIONS", broken)
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 2)
    with pytest.raises(StoreError, match="cannot be used"):
        await SqliteStore.open(path)
    monkeypatch.undo()
    store = await SqliteStore.open(path)
    await store.put(draft("a"))
    await store.close()
    with sqlite3.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    connection.close()
    assert "extra" not in tables


async def test_a_compacted_log_says_so(store: SqliteStore) -> None:
    for n in range(10):
        await store.put(draft(f"n{n}"))
    assert await store.compact(keep=3) == 7
    assert len(await take(store.watch(7), 3)) == 3
    with pytest.raises(Compacted) as caught:
        await anext(store.watch(6))
    assert (caught.value.wanted, caught.value.oldest) == (6, 7)
    assert (await store.list("thing")).revision == 10


async def test_the_log_is_bounded_in_changes_and_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of node tables made half a gigabyte of ten thousand changes, which every backup took along."""
    monkeypatch.setattr(sqlite, "_COMPACT_EVERY", 10)
    monkeypatch.setattr(sqlite, "_COMPACT_BYTES", 3_000)
    monkeypatch.setattr(sqlite, "LOG_BYTES", 6_000)
    store = await SqliteStore.open(tmp_path / "hub.db", log_keep=20)
    revision = 0
    for text, least, most in [("", 20, 30), ("é" * 500, 5, 10)]:
        for _ in range(50):
            revision = (await store.put(Resource(Key("thing", "", "a"), {"t": text}, revision=revision))).revision
        for _ in range(50):
            if least <= await _logged(store) <= most:
                break
        assert least <= await _logged(store) <= most
    assert len(await take(store.watch(revision - 5), 5)) == 5
    await store.close()


async def test_many_large_changes_in_few_commits_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet that comes back tells its node tables in groups of hundreds: a gigabyte in less than a thousand commits.
    And a look that the disk refuses is one that has to be taken yet."""
    monkeypatch.setattr(sqlite, "_COMPACT_BYTES", 10_000)
    monkeypatch.setattr(sqlite, "LOG_BYTES", 20_000)
    monkeypatch.setattr(sqlite, "_SWEEP_RETRY_S", 0.01)
    compact, refused = statements.compact, []

    def compacts_the_second_time(connection: sqlite3.Connection, keep: int, bytes_max: int) -> int:
        if not refused:
            refused.append(keep)
            raise sqlite3.OperationalError("database or disk is full")
        return compact(connection, keep, bytes_max)

    store = await SqliteStore.open(tmp_path / "hub.db")
    await _logged(store)  # the look of the start is over
    monkeypatch.setattr(statements, "compact", compacts_the_second_time)
    for part in range(4):
        await asyncio.gather(
            *(store.put(Resource(Key("thing", "", f"{part}-{n}"), {"t": "x" * 1000})) for n in range(20)),
            return_exceptions=True,  # of those that share the transaction of the look that fails
        )
    logged = 80
    async with asyncio.timeout(10):
        while logged > 20 or not refused:
            with contextlib.suppress(StoreUnavailable):  # it shares its transaction with the look that fails
                logged = await _logged(store)
    await store.close()


async def test_a_disk_that_refuses_is_not_asked_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is written to the log, which is on the same disk: thousands a second filled it."""
    asked: list[int] = []

    def refuses(connection: sqlite3.Connection, keep: int, bytes_max: int) -> int:
        asked.append(keep)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(statements, "compact", refuses)
    store = await SqliteStore.open(tmp_path / "hub.db")
    for _ in range(20):
        with contextlib.suppress(StoreUnavailable):
            await _logged(store)
    await store.close()
    assert len(asked) == 1


async def _logged(store: SqliteStore) -> int:
    """How many changes the log has, behind what the writer was asked until now."""
    query = "SELECT count(*) FROM changes"
    count: int = await store._writer.submit(lambda connection: connection.execute(query).fetchone()[0])
    return count


async def test_what_is_followed_does_not_wait_behind_what_is_listed(store: SqliteStore) -> None:
    """Else nobody would hear of a revocation while many read long lists, and workers that do not hear are killed."""
    goes_on = threading.Event()
    async with TaskGroup("readers") as tasks:
        listing = tasks.spawn(store._read(lambda connection: goes_on.wait(5.0)), name="a long list")
        made = await store.put(draft("a"))
        (event,) = await take(store.watch(made.revision - 1), 1)
        assert (event.resource, listing.done()) == (made, False)
        goes_on.set()
        await listing


async def test_a_failing_disk_is_reported_and_changes_nothing(store: SqliteStore) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE counters SET value = 1000")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnavailable):
        await store._writer.submit(fail)
    assert (await store.put(draft("a"))).revision == 1


WRITER = """
import asyncio, sys
from pathlib import Path
from hub.store.model import Key, Resource
from hub.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    async def write(worker):
        n = 0
        while True:
            await store.put(Resource(Key("thing", "", f"w{worker}-{n}"), {"n": n}))
            print(f"w{worker}-{n}", flush=True)
            n += 1
    await asyncio.gather(*(write(worker) for worker in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(5))
async def test_every_acknowledged_write_survives_sigkill(tmp_path: Path, seed: int) -> None:
    """The writer prints a name only after its put returned; it is killed at a random moment."""
    path = tmp_path / "hub.db"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    process.wait()
    acknowledged = (first + rest).decode().split("\n")[:-1]
    store = await SqliteStore.open(path)
    stored = {item.key.name for item in (await store.list("thing")).items}
    await store.put(Resource(Key("thing", "", "after"), {}))
    await store.close()
    assert acknowledged
    assert set(acknowledged) <= stored
