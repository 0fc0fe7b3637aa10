"""Tasks with a name, an owner and an end. The only place that calls `create_task`.

The event loop keeps weak references: a task that nobody holds may vanish in the middle, and its exception with it.
Here every task is held until it ends, and what ends one unexpectedly is logged once.
"""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, cast

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class TaskGroup:
    """Owner of tasks that end no later than it does.

    Unlike asyncio.TaskGroup a failing task does not cancel its siblings: it is logged, and the owner may look at it
    through the task that `spawn` returned. `aclose()` cancels the rest and waits for them.
    """

    __slots__ = ("_is_closed", "_tasks", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """Asked to end in the order in which they began."""
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def spawn(self, coro: Coroutine[Any, Any, _T], *, name: str) -> asyncio.Task[_T]:
        """Start `coro` as a task of this group. Raise RuntimeError, and close `coro`, when the group has ended."""
        if self._is_closed:
            coro.close()
            raise RuntimeError(f"task group {self.name} has ended")
        task = asyncio.get_running_loop().create_task(coro, name=f"{self.name}/{name}")
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    async def unbroken(self, coro: Coroutine[Any, Any, _T], expected: tuple[type[Exception], ...], *, name: str) -> _T:
        """Await `coro` as a task of this group, which comes to its end though its waiter is cancelled. Raises what it
        raises; what is not one of `expected` is logged besides, as of any task that fails. RuntimeError as `spawn`."""
        try:
            task = self.spawn(_outcome(coro, expected), name=name)
        except RuntimeError:
            coro.close()
            raise
        value, failure = await asyncio.shield(task)
        if failure is not None:
            raise failure
        return cast(_T, value)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        if (exc := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=exc)

    def cancel(self) -> None:
        """Ask every task to end; `aclose` waits for it."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Wait until no task is left. Safe to cancel: the tasks go on."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended. May be repeated. A cancellation is raised after the end."""
        self._is_closed = True
        current = asyncio.current_task()
        cancelled: asyncio.CancelledError | None = None
        asked: set[asyncio.Task[Any]] = set()
        while rest := [task for task in self._tasks if task is not current]:
            for task in rest:
                if task not in asked:  # once: a second time would cut what it does in its `finally`
                    asked.add(task)
                    task.cancel()
            try:
                await asyncio.wait(rest)
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled


def spawn(coro: Coroutine[Any, Any, _T], *, name: str, group: TaskGroup) -> asyncio.Task[_T]:
    """Start `coro` as a task named `name` that ends no later than `group`."""
    return group.spawn(coro, name=name)


async def _outcome(
    coro: Coroutine[Any, Any, _T], expected: tuple[type[Exception], ...]
) -> tuple[_T | None, Exception | None]:
    """Its result, or what went wrong as it was expected to."""
    try:
        return await coro, None
    except expected as exc:
        return None, exc
