"""Runs programs to their end, with a time limit: kubectl first of all."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.harness import tools
from tests.harness.children import launched
from tests.harness.failures import HarnessError
from tests.harness.runs import Run


@dataclass(frozen=True)
class Result:
    """How a program ended: exit code, output as text and as bytes."""

    command: tuple[str, ...]
    rc: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="replace")

    def check(self) -> Self:
        """Itself when the program succeeded, else HarnessError with what it said."""
        if self.rc != 0:
            raise HarnessError(
                f"{' '.join(self.command)}: exit code {self.rc}\n{self.stdout[-4000:]}{self.stderr[-4000:]}"
            )
        return self


async def execute(
    command: Sequence[str],
    *,
    stdin: bytes | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,  # noqa: ASYNC109 - the process must be killed when it runs out, which a caller's scope cannot do
) -> Result:
    """Run `command`; `env` is added to ours. Past `timeout` seconds, or when cancelled, it is killed.

    Raises HarnessError with what it printed when it ran out of time.
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    process = await asyncio.create_subprocess_exec(
        *launched(command),
        stdin=asyncio.subprocess.DEVNULL if data is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(data)
    except TimeoutError:
        raise HarnessError(f"{' '.join(command)}: still running after {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Result(tuple(command), process.returncode or 0, stdout, stderr)


def kubectl_command(kubeconfig: Path, *args: str, prefix: Sequence[str] = ()) -> list[str]:
    """The command line of our kubectl; for processes that a test drives itself (`-w`, `-f`, port-forward)."""
    return [*prefix, tools.kube("kubectl"), "--kubeconfig", str(kubeconfig), *args]


async def kubectl(
    kubeconfig: Path,
    *args: str,
    stdin: bytes | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,  # noqa: ASYNC109 - as in execute()
    prefix: Sequence[str] = (),
) -> Result:
    """Run our kubectl with `kubeconfig` and nothing of the user's own set-up. Never raises for its exit code."""
    home = Run.current().directory / "home"  # discovery cache
    home.mkdir(exist_ok=True)
    environment = {"HOME": str(home), "KUBECONFIG": "", **(env or {})}
    command = kubectl_command(kubeconfig, *args, prefix=prefix)
    return await execute(command, stdin=stdin, env=environment, timeout=timeout)
