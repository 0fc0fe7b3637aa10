"""Processes of the harness: started through the launcher, logged to a file, stopped within a bound.

They are plain `subprocess.Popen` objects, not asyncio's: session-wide clusters outlive the event loop of any one test.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.harness.failures import HarnessError, tail

_LAUNCHER: Final = Path(__file__).with_name("launch.py")
_POLL_S: Final = 0.02
RUN_VARIABLE: Final = "RIATA_HARNESS_RUN"


def launched(command: Sequence[str]) -> list[str]:
    """`command` wrapped so that it dies with the calling process."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command]


class Child:
    """One running component: `name`, `pid`, `log`."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> Self:
        """Start `command`; stdout and stderr go to `log`. The command must be free of secrets (ps shows it)."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                launched(command),
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                # Own process group: Ctrl-C reaches the test run only, which then stops everything in order.
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code once it ended (negative: the signal), None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raise HarnessError with the log's end when the process is gone."""
        if self.returncode is not None:
            raise HarnessError(f"{self.name} ended with {self.returncode}; the end of {self.log}:\n{tail(self.log)}")

    def send(self, number: int) -> None:
        """Send a signal; nothing happens when it already ended."""
        self._process.send_signal(number)

    async def wait(self, timeout_s: float) -> int | None:
        """Exit code, or None when it still runs after `timeout_s`. Cancellation leaves the process alone."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.returncode is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a process
            await asyncio.sleep(_POLL_S)
        return self.returncode

    async def stop(self, timeout_s: float = 5, *, number: int = signal.SIGTERM) -> None:
        """End it: `number`, then after `timeout_s` SIGKILL. Returns when it is reaped."""
        if self.returncode is None:
            self.send(number)
        if await self.wait(timeout_s) is None:
            self.send(signal.SIGKILL)
            await self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL and reap, synchronously."""
        self.send(signal.SIGKILL)
        self._process.wait(timeout=10)


async def until(
    condition: Callable[[], object], *, what: str, timeout_s: float, alive: Iterable[Child] = (), poll_s: float = 0.05
) -> None:
    """Wait until `condition()` is true, while every one of `alive` runs. Raises HarnessError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    children = list(alive)
    while not condition():
        for child in children:
            child.check()
        if loop.time() > deadline:
            logs = "\n".join(f"--- {child.log}\n{tail(child.log)}" for child in children)
            raise HarnessError(f"{what}: not within {timeout_s:g} s\n{logs}")
        await asyncio.sleep(poll_s)
