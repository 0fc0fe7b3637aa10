"""An asyncio loop whose time jumps to the next timer: a minute of a tunnel's life takes milliseconds, and a seed
repeats it."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar, cast

_T = TypeVar("_T")


class Deadlock(AssertionError):
    """Nothing will ever happen again."""


class _Clock:
    """In place of a selector: to wait is to move the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("no timer and nothing to do")
        self.now += max(timeout, 0.0)
        return []

    def close(self) -> None:
        """There is nothing to close."""

    def get_map(self) -> dict[Any, Any]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """No descriptors: whoever wants one gets NotImplementedError."""

    def __init__(self) -> None:
        self._virtual = _Clock()
        super().__init__(cast(selectors.BaseSelector, self._virtual))
        self._clock_resolution = 1e-9

    def timers(self) -> list[str]:
        """What would still be called, and when: nobody may leave one behind."""
        handles = cast(list[asyncio.TimerHandle], self._scheduled)  # type: ignore[attr-defined]
        return [repr(handle) for handle in handles if not handle.cancelled()]

    def time(self) -> float:
        return self._virtual.now

    # asyncio's own wake-up pipe: there is no other thread that could use it
    def _make_self_pipe(self) -> None: ...
    def _close_self_pipe(self) -> None: ...
    def _write_to_self(self) -> None: ...

    def _add_reader(self, *arguments: Any) -> NoReturn:
        raise NotImplementedError("no sockets in virtual time")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end. Raises Deadlock when everybody waits for ever; no task and no timer may be left behind."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main)
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks left behind: {left}"
        assert not loop.timers(), f"timers left behind: {loop.timers()}"
        return result
    finally:
        loop.close()
