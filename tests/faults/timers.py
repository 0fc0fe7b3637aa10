"""A program whose timers are counted: `python -m tests.faults.timers FILE hub|agent …`.

At SIGUSR2 it writes into FILE, by what they call, how many timers its event loop holds that are neither due nor
cancelled. No loop tells that of itself, and the shipped programs do not count: this wrapper, which is shipped with
nothing, gives them a loop that does. Timers of `asyncio.sleep` and `asyncio.timeout` are among them.
"""

import asyncio
import collections
import contextvars
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVarTuple

import uvloop

import agent.cli
import hub.cli
from proto.aio import loop
from tests.harness.children import Child, until
from tests.harness.runs import Run

_Ts = TypeVarTuple("_Ts")


class CountingLoop(uvloop.Loop):
    """Knows its timers. uvloop's own `call_at` comes by `call_later`."""

    def __init__(self) -> None:
        self.live: dict[asyncio.TimerHandle, str] = {}
        """What is called, by its name."""

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        def call(*args: *_Ts) -> None:
            self.live.pop(handle, None)
            callback(*args)

        handle = super().call_later(delay, call, *args, context=context)
        self.live[handle] = getattr(callback, "__qualname__", repr(callback))
        return handle

    def timers(self) -> dict[str, int]:
        for handle in [handle for handle in self.live if handle.cancelled()]:
            del self.live[handle]
        return dict(collections.Counter(self.live.values()))


@dataclasses.dataclass
class Timers:
    """A test's side of it, for one program. `package`: `hub` or `agent`."""

    package: str

    @property
    def file(self) -> Path:
        return Run.current().directory / f"timers-{self.package}.json"

    @property
    def program(self) -> list[str]:
        """What to run in place of the program."""
        return [sys.executable, "-m", "tests.faults.timers", str(self.file), self.package]

    async def count(self, child: Child) -> dict[str, int]:
        """Those of now, by what they call."""
        self.file.unlink(missing_ok=True)
        child.send(signal.SIGUSR2)
        await until(self.file.exists, what="no timers were counted", timeout_s=30, alive=[child])
        found: dict[str, int] = json.loads(self.file.read_text())
        return found


def main() -> int:
    target, package = Path(sys.argv[1]), sys.argv[2]
    made: list[CountingLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(CountingLoop())
        return made[-1]

    def tell(number: int, frame: Any) -> None:
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(made[-1].timers()))
        os.replace(partial, target)

    loop.factory = factory
    signal.signal(signal.SIGUSR2, tell)
    return agent.cli.main(sys.argv[3:], os.environ) if package == "agent" else hub.cli.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
