"""riata-hub and riata-agent as processes of the demo: they log to files, say when they are ready, and die with us."""

import asyncio
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ctl import errors, terminal

READY_S = 30.0
"""A hub or an agent listens within a second; a loaded machine gets half a minute."""

STOP_S = 15.0
"""How long a process may drain after SIGTERM."""

_PACKAGES = pathlib.Path(__file__).resolve().parents[2]
_LOG_TAIL_BYTES = 2000
_PR_SET_PDEATHSIG = 1


class Child:
    """One process: `name`, `pid`, `log`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: pathlib.Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def ready(self, file: pathlib.Path) -> dict[str, Any]:
        """What the process writes to its ready file. CommandError with the end of its log when it does not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_S
        while (found := _document(file)) is None:
            if self.returncode is not None:
                raise self.failure(f"ended with {self.returncode}")
            if loop.time() > deadline:
                raise self.failure(f"was not ready within {READY_S:g} s")
            await asyncio.sleep(0.02)
        return found

    def failure(self, what: str) -> errors.CommandError:
        return errors.CommandError(f"{self.name} {what}", means=f"the end of {self.log}:\n{tail(self.log)}")

    async def wait(self) -> int:
        """Its exit code, when it has one."""
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it in time."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), STOP_S)


@contextlib.asynccontextmanager
async def child(name: str, program: Sequence[str], *, log: pathlib.Path) -> AsyncIterator[Child]:
    """Run `program` until the block ends. Nothing secret may be in it: every user sees the command lines."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us: we end the others in order
            preexec_fn=_die_with_parent(),
        )
    running = Child(name, process, log)
    try:
        yield running
    finally:
        await running.stop()


async def completed(name: str, program: Sequence[str], *, log: pathlib.Path) -> None:
    """Run `program` to its end. CommandError with the end of its log when it fails."""
    async with child(name, program, log=log) as running:
        code = await running.wait()
    if code != 0:
        raise running.failure(f"ended with {code}")


def program(name: str, package: str) -> list[str]:
    """How to start `name`: its script beside this Python, or the package of this checkout."""
    script = pathlib.Path(sys.executable).parent / name
    if os.access(script, os.X_OK):
        return [str(script)]
    # -P keeps the working directory out of sys.path: a stranger's `hub` must not be run.
    start = (
        f"sys.path.insert(0, {str(_PACKAGES)!r}); runpy.run_module({package!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-P", "-c", f"import runpy, sys; {start}"]


def _environment() -> dict[str, str]:
    """Ours without settings of riata: the demo's processes get theirs as arguments."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RIATA_")}


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the program: ask for SIGKILL when we die (Linux only has this)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _document(file: pathlib.Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):  # not there yet, or half written
        return None
    return found if isinstance(found, dict) else None


def tail(log: pathlib.Path) -> str:
    try:
        data = log.read_bytes()[-_LOG_TAIL_BYTES:]
    except OSError:
        return "(no log)"
    return terminal.clean(data.decode(errors="replace").strip()) or "(empty)"
