"""The one thread that writes, with group commit: whatever waits when a transaction begins shares its one fsync."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from hub.store.model import StoreError, StoreUnavailable
from proto.rationing import RationedLog

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Runs inside the transaction. A StoreError that it raises concerns its caller alone, and it must then have changed
nothing."""

QUEUE_MAX: Final = 4096
"""Writes that wait. More are refused at once: the disk cannot keep up, and every queued one costs memory."""
GROUP_MAX: Final = 256
"""Writes that share a transaction, so that nobody waits for an endless one."""
FAILURES_BURST: Final = 5.0
FAILURES_PER_S: Final = 1 / 60
"""Lines about what SQLite refuses for the same reason: a full disk refuses every write of thousands of agents, and the
log may be on that disk."""


@dataclasses.dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """In the loop's thread. The caller may have been cancelled meanwhile; the write stands."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Owns the writing connection and its thread. `on_commit` is called in the loop's thread after each group."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_commit: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._queue: queue.Queue[_Job | None] = queue.Queue(QUEUE_MAX)
        self._closed = False
        self._failures = RationedLog(logger, now, burst=FAILURES_BURST, per_s=FAILURES_PER_S)
        """The thread's alone."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is durable. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            self._queue.put_nowait(_Job(work, future, loop))
        except queue.Full:
            raise StoreUnavailable("too many writes wait for the disk") from None
        return await future

    def stop(self) -> None:
        """Take no more. For the loop's thread, as `submit`: what came behind the queue's end would wait for ever."""
        self._closed = True

    def close(self) -> None:
        """Finish what was accepted, end the thread, close the connection. Blocks for as long as the disk needs; where
        that is in another thread, `stop` comes first."""
        self.stop()
        if self._thread.is_alive():
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            jobs, is_open = self._take()
            if jobs:
                self._commit(jobs)
                self._report(jobs)
        self._connection.close()

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for one job, then take what else is there. The flag is False after close()."""
        jobs: list[_Job] = []
        item = self._queue.get()
        while item is not None:
            jobs.append(item)
            if len(jobs) >= GROUP_MAX:
                return jobs, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                try:
                    job.result = job.work(self._connection)
                except StoreError as exc:
                    job.error = exc
            self._connection.execute("COMMIT")
        except Exception as exc:
            self._failed("store transaction failed", exc, writes=len(jobs))
            self._roll_back()
            for job in jobs:
                job.error = StoreUnavailable("the store could not write; the hub's log says why")
                job.error.__cause__ = exc

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as exc:
            self._failed("store rollback failed", exc)

    def _failed(self, event: str, exc: Exception, **fields: object) -> None:
        """A reason is SQLite's own name for it (SQLITE_FULL), so that another one is told at once."""
        reason = getattr(exc, "sqlite_errorname", type(exc).__name__)
        self._failures.log(logging.ERROR, event, f"{event}: {reason}", with_traceback=True, **fields)

    def _report(self, jobs: Sequence[_Job]) -> None:
        def settle() -> None:
            for job in jobs:
                job.settle()
            self._on_commit()

        try:
            jobs[0].loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("store writes finished after their loop")
