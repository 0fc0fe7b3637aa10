"""kubectl as a user runs it: a program with a kubeconfig and a private home, nothing of the test inside it."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

WEBSOCKET = "websocket"
SPDY = "spdy"
MODES = (WEBSOCKET, SPDY)
"""Both transports of exec, attach, cp and port-forward: KEP-4006 and what came before it."""

LINE_LIMIT = 1 << 20
"""Longest line of output in bytes: a watch prints a whole object on one."""


@dataclass(frozen=True)
class Result:
    """What one run of kubectl left: exit code and both outputs."""

    rc: int
    raw: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class Running:
    """A kubectl that goes on: watch, follow, exec, attach, port-forward."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors

    @property
    def stderr(self) -> str:
        """Everything it wrote to standard error until now."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    async def line(self, within: float = 40.0) -> str:
        """The next line of its output, without the line end; empty at the end of the output."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(within):
                return (await self.process.stdout.readline()).decode().rstrip("\r\n")
        except TimeoutError:
            raise AssertionError(f"no line within {within} s; standard error: {self.stderr}") from None

    async def send(self, data: bytes) -> None:
        """Write to its standard input and wait for room."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def end(self, within: float = 40.0) -> Result:
        """Wait for its own end; what was left of its output is in the result."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(within):
                rest = await self.process.stdout.read()
                code = await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"kubectl still ran after {within} s; standard error: {self.stderr}") from None
        return Result(code, rest, self.stderr)

    async def kill(self) -> None:
        """SIGKILL, then wait until it is gone; idempotent."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
        if self.process.stdin is not None:
            self.process.stdin.close()
        assert self.process.stdout is not None
        await self.process.stdout.read()
        await self.process.wait()


@dataclass(frozen=True)
class Kubectl:
    """One kubectl, one kubeconfig, one home, perhaps one namespace."""

    program: Path
    kubeconfig: Path
    home: Path
    namespace: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def over(self, mode: str) -> "Kubectl":
        """The same kubectl speaking WebSocket or SPDY for exec, attach, cp and port-forward."""
        wanted = "true" if mode == WEBSOCKET else "false"
        return self.having(KUBECTL_REMOTE_COMMAND_WEBSOCKETS=wanted, KUBECTL_PORT_FORWARD_WEBSOCKETS=wanted)

    def having(self, **variables: str) -> "Kubectl":
        """The same kubectl with further environment variables."""
        return replace(self, variables={**self.variables, **variables})

    def inside(self, namespace: str) -> "Kubectl":
        """The same kubectl with every command bound to one namespace."""
        return replace(self, namespace=namespace)

    @property
    def environment(self) -> dict[str, str]:
        """A clean environment: no proxy, no foreign kubeconfig, a cache of its own."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KUBECACHEDIR": str(self.home / "cache"),
            "TMPDIR": str(self.home),
            **self.variables,
        }

    def command(self, *arguments: str) -> list[str]:
        """The full argument vector."""
        bound = ["--namespace", self.namespace] if self.namespace else []
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *bound, *arguments]

    async def __call__(
        self, *arguments: str, stdin: bytes | Path | None = None, within: float = 60.0, rc: int | None = 0
    ) -> Result:
        """Run to its end. `stdin` is bytes or a file; `rc` is the exit code that must come, None allows any."""
        with contextlib.ExitStack() as stack:
            given: int | IO[bytes] = asyncio.subprocess.DEVNULL
            if isinstance(stdin, Path):
                given = stack.enter_context(stdin.open("rb"))
            elif stdin is not None:
                given = stack.enter_context(tempfile.TemporaryFile())
                given.write(stdin)
                given.seek(0)
            process = await asyncio.create_subprocess_exec(
                *self.command(*arguments),
                stdin=given,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self.environment,
            )
            try:
                async with asyncio.timeout(within):
                    out, err = await process.communicate()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                out, err = await process.communicate()
                print(f"kubectl {' '.join(arguments)}: cut off; {out[-2000:]!r} {err[-2000:]!r}")
                raise
        assert process.returncode is not None
        result = Result(process.returncode, out, err.decode(errors="replace"))
        assert rc is None or result.rc == rc, (
            f"kubectl {' '.join(arguments)}: exit code {result.rc}, not {rc}\n{result.stderr}\n{out[-2000:]!r}"
        )
        return result

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Running]:
        """Start one that goes on; it is killed at the end of the block if it still runs."""
        with tempfile.TemporaryFile() as errors:
            process = await asyncio.create_subprocess_exec(
                *self.command(*arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                limit=LINE_LIMIT,
            )
            running = Running(process, errors)
            try:
                yield running
            finally:
                await running.kill()
