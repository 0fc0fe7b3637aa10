"""One call for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from hub.store.model import StoreError
from proto.aio.tasks import TaskGroup

R = TypeVar("R")


class SingleFlight(Generic[R]):
    """Who comes while a call is under way gets what it gives, which may be without what changed since it began. Tasks
    of the group `tasks`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._under_way: dict[str, asyncio.Task[R | StoreError]] = {}

    async def do(self, key: str, call: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """What `call` gives, or the one under way for `key`; it comes to its end though who waits is cancelled. Raises
        what it raises; a StoreError is for those who wait, and no failure of the task."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = self._tasks.spawn(_outcome(call), name=f"for {key}")
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        found = await asyncio.shield(task)
        if isinstance(found, StoreError):
            raise found
        return found


async def _outcome(call: Callable[[], Coroutine[Any, Any, R]]) -> R | StoreError:
    try:
        return await call()
    except StoreError as exc:
        return exc
