"""`riata demo` as a process of a test."""

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any

from tests import harness
from tests.harness import tools
from tests.harness.children import RUN_VARIABLE, launched

_DOCUMENT_S = 150


@dataclasses.dataclass
class Demo:
    """A demo that is ready: what it printed, and how long it took from its start."""

    process: asyncio.subprocess.Process
    errors: pathlib.Path
    made: dict[str, Any]
    took_s: float

    async def kubectl(self, context: str, *arguments: str) -> harness.Result:
        return await harness.kubectl(pathlib.Path(self.made["kubeconfig"]), "--context", context, *arguments)

    async def end(self, number: int) -> int:
        """Send the signal; the exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)

    def assert_gone(self) -> None:
        """None of its processes and no kubeconfig is left."""
        assert [role for role, pid in self.made["pids"].items() if _runs(pid)] == []
        assert not pathlib.Path(self.made["kubeconfig"]).exists()


@contextlib.asynccontextmanager
async def started(
    directory: pathlib.Path, *arguments: str, temporary: pathlib.Path | None = None
) -> AsyncIterator[Demo]:
    """The demo, from its command line to the one JSON object; killed at the end when a test has not ended it.

    Its messages go to a file in `directory`. `temporary`: where it makes its own directory; not for demos that make
    clusters, whose sockets need short paths.
    """
    errors = directory / "demo.err"
    command = [*tools.console_script("riata", "ctl"), "demo", "-o", "json", *arguments]
    began = time.monotonic()
    with errors.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *launched(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            env=environment() | ({"TMPDIR": str(temporary)} if temporary else {}),
        )
    try:
        yield Demo(process, errors, await _document(process, errors), time.monotonic() - began)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        assert process.stdout is not None
        process.stdout.feed_eof()


def environment() -> dict[str, str]:
    """Ours without what sudo and an outer make say: the run of the tests is not the user of the demo."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SUDO_") and name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS"}
    }


async def _document(process: asyncio.subprocess.Process, errors: pathlib.Path) -> dict[str, Any]:
    assert process.stdout is not None
    text = b""
    async with asyncio.timeout(_DOCUMENT_S):
        while chunk := await process.stdout.read(65536):
            text += chunk
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(text)
                return found
    raise AssertionError(f"no JSON object: {text!r}\n{errors.read_text()}")


def run_of(pid: int) -> str | None:
    """The harness run of the demo `pid`, by the mark that its children carry; None before it has one."""
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                variables = pathlib.Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
                found = [v.partition(b"=")[2].decode() for v in variables if v.startswith(f"{RUN_VARIABLE}=".encode())]
                if found and found[0] != os.environ.get(RUN_VARIABLE):
                    return found[0]
    return None


def _runs(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
