"""SQLite backend of the store: one file, for one hub process (design D7).

WAL with `synchronous=FULL`: a commit returns after its fsync, so what is acknowledged survives power loss. One thread
writes with group commit (hub.store.writer), one reads what is asked for, one what watchers follow: no list, however
long or often, holds up a revocation. The event loop never touches the disk. A lock file keeps a second process out,
because watchers learn of changes inside this process only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import fcntl
import functools
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Final, TypeVar

from hub import ownership
from hub.clock import Clock, wall_clock
from hub.store import statements
from hub.store.migrations import SCHEMA_VERSION, migrate
from hub.store.model import Event, Key, Listing, Resource, StoreError, StoreUnavailable
from hub.store.writer import Writer
from proto.aio.tasks import TaskGroup

logger = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=Event | None)

FILE_NAME: Final = "hub.db"
LOCK_NAME: Final = f"{FILE_NAME}.lock"
"""Made before the database itself."""
WATCH_BATCH: Final = 256
"""Changes that a watcher reads at a time: a bound on its memory."""
LOG_KEEP: Final = 10_000
"""Changes that the log keeps by default; a watcher further behind lists anew."""
LOG_BYTES: Final = 64 * 1024 * 1024
"""Of documents that it keeps at most: the parts of a node table are 50 KiB, and change whenever a cluster grows."""
_COMPACT_EVERY: Final = 1000
_COMPACT_BYTES: Final = 16 * 1024 * 1024
"""Commits between two looks at the log, and bytes of documents that it has grown by."""
_BUSY_S: Final = 5.0
_SWEEP_MIN_S: Final = 0.02
_SWEEP_RETRY_S: Final = 5.0


class SqliteStore:
    """Store (hub.store.interface) on a file. Make it with `open()`."""

    def __init__(self, path: Path, lock: int, *, clock: Clock, log_keep: int) -> None:
        self._clock = clock
        self._log_keep = log_keep
        self._lock = lock
        self._closed = False
        self._changed = asyncio.Event()
        self._due = asyncio.Event()
        self._commits = 0
        self._logged = 0
        """Bytes of documents. Only the writer's thread adds."""
        self._looked_at = -_COMPACT_EVERY, 0
        """The two as they were when the log was looked at last."""
        self._tasks = TaskGroup("store")
        self._reader = _Reader(path, "store-reader")
        self._follower = _Reader(path, "store-follower")
        self._writer = Writer(_connect(path), self._committed)

    @classmethod
    async def open(cls, path: Path, *, clock: Clock = wall_clock, log_keep: int = LOG_KEEP) -> SqliteStore:
        """Open or create the file (0600) and bring its schema up to date.

        Raises StoreError: another process has it open, its schema is newer, it is no database of ours.
        """
        lock = await asyncio.to_thread(_prepare, path)
        store = cls(path, lock, clock=clock, log_keep=log_keep)
        store._tasks.spawn(store._keep_house(), name="housekeeping")
        return store

    async def get(self, key: Key) -> Resource | None:
        return await self._read(lambda connection: statements.get(connection, key))

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        return await self._read(lambda connection: statements.listing(connection, kind, cluster))

    async def clusters_of(self, kind: str) -> frozenset[str]:
        return await self._read(lambda connection: statements.clusters_of(connection, kind))

    async def put(self, resource: Resource, *, lease: int = 0) -> Resource:
        spec, status = statements.encode(resource.spec), statements.encode(resource.status)
        event = await self._writer.submit(
            lambda connection: self._count(connection, statements.put(connection, resource, spec, status, lease))
        )
        return event.resource

    async def delete(self, key: Key, *, revision: int | None = None) -> int | None:
        event = await self._writer.submit(
            lambda connection: self._count(connection, statements.delete(connection, key, revision))
        )
        return None if event is None else event.revision

    async def watch(self, since: int, *, kinds: frozenset[str] | None = None) -> AsyncIterator[tuple[Event, ...]]:
        position = since
        while True:
            changed = self._changed
            changes = functools.partial(statements.changes, since=position, limit=WATCH_BATCH)
            batch = await self._read(changes, self._follower)
            if not batch:
                if self._closed:
                    raise StoreUnavailable("the store is closed")
                await changed.wait()
                continue
            position = batch[-1].revision
            wanted = batch if kinds is None else tuple(event for event in batch if event.resource.key.kind in kinds)
            if wanted:
                yield wanted

    async def grant_lease(self, ttl_s: float) -> int:
        if ttl_s <= 0:
            raise ValueError("a lease lasts longer than 0 seconds")
        lease = await self._writer.submit(lambda db: statements.grant_lease(db, ttl_s, self._clock()))
        self._due.set()
        return lease

    async def keep_lease(self, lease: int) -> None:
        await self._writer.submit(lambda db: statements.keep_lease(db, lease, self._clock()))

    async def revoke_lease(self, lease: int) -> None:
        await self._writer.submit(lambda db: statements.end_lease(db, lease))

    async def compact(self, keep: int) -> int:
        """Forget all but the last `keep` changes now. Returns the revision up to which the log is forgotten."""
        return await self._writer.submit(lambda db: statements.compact(db, keep, LOG_BYTES))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._tasks.aclose()
        self._writer.stop()
        await asyncio.to_thread(self._release)
        self._wake_watchers()

    def _release(self) -> None:
        """In a worker thread, because writer and readers may have to wait for the disk."""
        self._writer.close()
        self._reader.close()
        self._follower.close()
        os.close(self._lock)

    async def _read(self, work: Callable[[sqlite3.Connection], T], reader: _Reader | None = None) -> T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            return await (reader or self._reader).run(work)
        except sqlite3.Error as exc:
            logger.exception("store read failed")
            raise StoreUnavailable("the store could not read; the hub's log says why") from exc

    def _committed(self) -> None:
        """In the loop, after each commit."""
        self._wake_watchers()
        self._commits += 1
        if self._is_long:
            self._due.set()

    @property
    def _is_long(self) -> bool:
        """Whether the log is to be looked at."""
        commits, logged = self._looked_at
        return self._commits - commits >= _COMPACT_EVERY or self._logged - logged >= _COMPACT_BYTES

    def _count(self, connection: sqlite3.Connection, event: E) -> E:
        """In the writer's transaction."""
        if event is not None:
            self._logged += statements.logged_bytes(connection, event.revision)
        return event

    def _wake_watchers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep_house(self) -> None:
        """End expired leases when their time comes, and keep the change log short."""
        while True:
            self._due.clear()
            is_long, seen = self._is_long, (self._commits, self._logged)
            try:
                expiry = await self._writer.submit(functools.partial(self._sweep, is_long=is_long))
                if is_long:
                    self._looked_at = seen
                delay = None if expiry is None else max(expiry - self._clock(), _SWEEP_MIN_S)
            except StoreUnavailable:
                await asyncio.sleep(_SWEEP_RETRY_S)  # whatever is due: each write that fails would have it tried again
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._due.wait()

    def _sweep(self, connection: sqlite3.Connection, *, is_long: bool) -> float | None:
        """In the writer's transaction. Returns when the next lease expires."""
        statements.expire_leases(connection, self._clock())
        if is_long:  # not whenever a lease ends
            statements.compact(connection, self._log_keep, LOG_BYTES)
        return statements.next_expiry(connection)


class _Reader:
    """One connection that reads, and the thread that uses it: one work at a time, in order."""

    def __init__(self, path: Path, name: str) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection = _connect(path, is_reader=True)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._connection)

    def close(self) -> None:
        """Finish what was asked for. Blocks."""
        self._thread.shutdown(wait=True)
        self._connection.close()


def beside(path: Path, busy_s: float = _BUSY_S) -> sqlite3.Connection:
    """A connection that only reads, beside a hub that may run. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=busy_s, isolation_level=None)


def peek(path: Path, kinds: Collection[str]) -> list[Resource]:
    """Every record of some kinds, read beside a hub that may run; nothing is written or locked. Raises StoreError."""
    try:
        with contextlib.closing(beside(path)) as connection:
            return [item for kind in sorted(kinds) for item in statements.listing(connection, kind, None).items]
    except sqlite3.Error as exc:
        raise StoreError(f"{path} cannot be read: {exc}") from exc


def _prepare(path: Path) -> int:
    """Lock, create and migrate the file; returns the lock's descriptor. Blocking."""
    try:
        lock = _lock(path)
    except PermissionError as exc:
        raise StoreError(f"{exc.filename}: {ownership.closed(Path(exc.filename), path.parent)}") from exc
    try:
        os.close(ownership.open_private(path))
        path.chmod(0o600)
        connection = _connect(path)
        try:
            found = migrate(connection)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        os.close(lock)
        raise StoreError(f"{path} cannot be used as the hub's database: {exc}") from exc
    except PermissionError as exc:
        os.close(lock)
        raise StoreError(f"{path}: {ownership.closed(path, path.parent)}") from exc
    except BaseException:
        os.close(lock)
        raise
    if 0 < found < SCHEMA_VERSION:
        logger.info("store schema migrated", extra={"from": found, "to": SCHEMA_VERSION})
    return lock


def _lock(path: Path) -> int:
    """An exclusive lock that ends with this process, however it ends."""
    lock = ownership.open_private(path.with_name(f"{path.name}.lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        raise StoreError(f"{path} is in use by another riata-hub process: stop that one first") from exc
    return lock


def _connect(path: Path, *, is_reader: bool = False) -> sqlite3.Connection:
    """Autocommit mode, so that transactions begin and end where the code says so. Used by one thread at a time."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if is_reader:
        connection.execute("PRAGMA query_only = ON")
    return connection
