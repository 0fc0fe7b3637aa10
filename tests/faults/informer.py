"""The Go program of tests/kube/cluster/informer: a client-go informer as controllers use it, built once and kept."""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tests.harness.children import launched
from tests.kube import layout, toolchain

SOURCE: Final = layout.HERE / "cluster" / "informer"
BUILD_S: Final = 600.0


def program() -> Path:
    """The binary, made if this source was never built (seconds behind `make kube`, whose packages it shares).

    Raises ToolchainError, and CalledProcessError with what the compiler said.
    """
    digest = hashlib.sha256((SOURCE / "main.go").read_bytes() + layout.key().encode()).hexdigest()[:16]
    target = layout.cache_root() / "informer" / digest
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{digest}.{os.getpid()}")
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
        command = [toolchain.find(), "build", "-trimpath", "-ldflags", layout.ldflags(), "-o", str(partial)]
        subprocess.run([*command, "./informer"], cwd=SOURCE.parent, env=environment, timeout=BUILD_S, check=True)
        partial.rename(target)
    return target


@dataclass
class Informer:
    """One that runs."""

    process: asyncio.subprocess.Process
    errors: IO[bytes]

    async def look(self) -> dict[str, Any]:
        """What it holds and has seen by now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        assert line, f"the informer has ended: {self.said()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def said(self) -> str:
        """Its standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


@contextlib.asynccontextmanager
async def informer(kubeconfig: Path, namespace: str, environment: Mapping[str, str]) -> AsyncIterator[Informer]:
    """Start one and wait until its cache is in step for the first time."""
    binary = await asyncio.to_thread(program)
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *launched([str(binary), "-kubeconfig", str(kubeconfig), "-namespace", namespace]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=dict(environment),
            limit=1 << 22,
        )
        made = Informer(process, errors)
        try:
            await made.look()
            yield made
        finally:
            if process.stdin is not None:
                process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
