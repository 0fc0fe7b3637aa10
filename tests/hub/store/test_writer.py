"""Group commit: many writes, few transactions, and one bad write is its caller's alone."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.store import writer as writer_module
from hub.store.model import StoreError, StoreUnavailable
from hub.store.writer import FAILURES_BURST, FAILURES_PER_S, Writer
from tests.harness.records import captured


class World:
    """A writer on a table of numbers. `commits` counts transactions."""

    def __init__(self, path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("CREATE TABLE numbers (n INTEGER)")
        self.path = path
        self.commits = 0
        self.now = 100.0
        self.writer = Writer(connection, self._committed, lambda: self.now)

    def _committed(self) -> None:
        self.commits += 1

    async def add(self, n: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            connection.execute("INSERT INTO numbers VALUES (?)", (n,))
            return n

        return await self.writer.submit(work)

    def numbers(self) -> set[int]:
        connection = sqlite3.connect(self.path)
        found = {n for (n,) in connection.execute("SELECT n FROM numbers")}
        connection.close()
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "db")
    yield world
    world.writer.close()


async def hold(world: World) -> tuple[asyncio.Task[None], threading.Event]:
    """Keep the thread busy until the event is set."""
    entered, release = threading.Event(), threading.Event()

    def work(_connection: sqlite3.Connection) -> None:
        entered.set()
        release.wait(5)

    task = asyncio.get_running_loop().create_task(world.writer.submit(work))
    await asyncio.to_thread(entered.wait, 5)
    return task, release


async def test_what_waits_shares_a_transaction(world: World) -> None:
    held, release = await hold(world)
    writes = asyncio.gather(*(world.add(n) for n in range(100)))
    await asyncio.sleep(0)
    release.set()
    assert await writes == list(range(100))
    await held
    assert world.commits == 2
    assert world.numbers() == set(range(100))


async def test_a_refused_write_leaves_its_neighbours_alone(world: World) -> None:
    def refuse(_connection: sqlite3.Connection) -> None:
        raise StoreError("no")

    held, release = await hold(world)
    writes = asyncio.gather(world.add(1), world.writer.submit(refuse), world.add(2), return_exceptions=True)
    await asyncio.sleep(0)
    release.set()
    results = await writes
    await held
    assert isinstance(results[1], StoreError)
    assert world.numbers() == {1, 2}


async def test_a_failure_of_the_database_fails_the_whole_group(world: World) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nowhere VALUES (1)")

    held, release = await hold(world)
    writes = asyncio.gather(world.add(1), world.writer.submit(fail), return_exceptions=True)
    await asyncio.sleep(0)
    release.set()
    assert all(isinstance(result, StoreUnavailable) for result in await writes)
    await held
    assert world.numbers() == set()
    assert await world.add(3) == 3


async def test_a_full_disk_does_not_fill_the_log(world: World) -> None:
    """Each of thousands of agents writes, and again: the first lines come at once, and then one a minute."""

    def fills(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own words for a disk that is full
        connection.execute("INSERT INTO numbers VALUES (zeroblob(100000))")

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nowhere VALUES (1)")

    async def write(work: Callable[[sqlite3.Connection], None], times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(StoreUnavailable):
                await world.writer.submit(work)

    with captured("hub.store.writer") as logged:
        await write(fills, 20)
        assert len(logged) == FAILURES_BURST
        await write(fail, 1)  # another reason is told at once
        assert len(logged) == FAILURES_BURST + 1
        world.now += 1 / FAILURES_PER_S
        await write(fills, 20)
    assert len(logged) == FAILURES_BURST + 2
    assert logged[-1] == {"event": "store transaction failed", "level": "error", "writes": 1, "suppressed": 15}


async def test_a_full_queue_refuses_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 2)
    world = World(tmp_path / "full")
    held, release = await hold(world)
    waiting = [asyncio.get_running_loop().create_task(world.add(n)) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too many"):
        await world.add(9)
    release.set()
    await asyncio.gather(held, *waiting)
    world.writer.close()


async def test_close_finishes_what_was_accepted(world: World) -> None:
    held, release = await hold(world)
    writes = asyncio.gather(*(world.add(n) for n in range(5)))
    await asyncio.sleep(0)
    release.set()
    await asyncio.to_thread(world.writer.close)
    assert await writes == list(range(5))
    await held
    with pytest.raises(StoreUnavailable, match="closed"):
        await world.add(6)
