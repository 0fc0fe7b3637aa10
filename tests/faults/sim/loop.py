"""An asyncio loop whose time jumps to the next timer: a minute of a tunnel's life takes milliseconds, and a seed
repeats it.

It goes on as asyncio's own loop does, turn by turn, timers of one moment in the order in which they were made, but does
less for each callback: nothing waits for descriptors, nobody uses context variables, and no other thread exists.
"""

import asyncio
import collections
import contextvars
import heapq
import itertools
import selectors
from asyncio import Handle, TimerHandle
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar, TypeVarTuple, cast

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Deadlock(AssertionError):
    """Nothing will ever happen again."""


class _NoSelector:
    """In place of a selector, of which this loop asks nothing."""

    def close(self) -> None:
        """There is nothing to close."""

    def get_map(self) -> dict[Any, Any]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """No descriptors and no threads: whoever wants one gets NotImplementedError."""

    _stopping: bool

    def __init__(self) -> None:
        super().__init__(cast(selectors.BaseSelector, _NoSelector()))
        self._now = 0.0
        self._soon: collections.deque[Handle] = collections.deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        """A heap. Cancelled ones stay until their time has come."""
        self._made = itertools.count()
        self._context = contextvars.copy_context()

    def timers(self) -> list[str]:
        """What would still be called, and when: nobody may leave one behind."""
        return [repr(handle) for _, _, handle in self._timers if not handle.cancelled()]

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, self._context)
        self._soon.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> TimerHandle:
        return self.call_at(self._now + delay, callback, *args)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> TimerHandle:
        handle = TimerHandle(when, callback, args, self, self._context)
        heapq.heappush(self._timers, (when, next(self._made), handle))
        return handle

    def _run_once(self) -> None:
        """One turn: what is due. What that asks for waits for the next turn. Raises Deadlock."""
        soon, timers = self._soon, self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not soon and not self._stopping:
            if not timers:
                raise Deadlock("no timer and nothing to do")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            soon.append(heapq.heappop(timers)[2])
        for _ in range(len(soon)):
            handle: Any = soon.popleft()
            if not handle._cancelled:
                try:
                    handle._callback(*handle._args)  # as Handle._run, without a context for each
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    self.call_exception_handler({"message": f"failed: {handle!r}", "exception": exc, "handle": handle})

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> NoReturn:
        raise NotImplementedError("no threads in virtual time")

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
