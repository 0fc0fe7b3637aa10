"""The event loop: uvloop where it is installed, the standard one otherwise."""

import asyncio
import ctypes
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Objects made before the collector looks at the young ones. Streams and exchanges are unlinked when they end, so
there is little for it to find; by default it would look every few requests."""

_MMAP_THRESHOLD: Final = -3, 256 * 1024
"""Parameter and value of mallopt(3). uvloop gives each TLS connection a buffer of 256 KiB and uses little of it. By
default most would come from memory that was in use before and is resident, 80 KiB more a connection. So they are
mapped, which glibc does only where the end of its heap has no room for them."""
_TRIM_THRESHOLD: Final = -1, 2 * 1024 * 1024
"""What may be free there. With less, a download gives back and takes again what its blocks need: every second page of
what it moved was taken anew."""

_SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread at Python's work may keep the event loop waiting, in each of its turns; 5 ms by default. A scrape
of a thousand clusters (33 ms in its thread) held up a request for 2 to 10 ms mostly instead of 28, and was no
slower."""


def factory() -> asyncio.AbstractEventLoop:
    """Return a new loop. uvloop keeps an idle TLS tunnel at 39 KiB instead of 293; all is right without it."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    loop = importlib.import_module("uvloop").new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    return loop


def run(coro: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run `coro` to its end on a fresh loop, cancel what it left behind, and return its result."""
    _occupy()
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(coro)


def _occupy() -> None:
    """Put the null device where a standard stream is closed (`nohup riata-hub serve <&- …`). The next file or socket
    would have its number: libuv aborts when it is to close such a one, and what a library prints would go there."""
    for standard in range(3):
        try:
            os.fstat(standard)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def settle() -> None:
    """Call in a program that is about to run for long: what was imported lives as long as it, and the collector need
    not look at it again; and other threads give way to the event loop sooner."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(*_MMAP_THRESHOLD)
        mallopt(*_TRIM_THRESHOLD)
