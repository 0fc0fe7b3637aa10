"""kubectl on a terminal: a pseudo-terminal pair whose far side the test reads and types into."""

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import AsyncIterator

from tests.e2e.kubectl import Kubectl


class Terminal:
    """The master side of the pair. Reads poll: no reader is left behind in the loop."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self.process = process
        self.seen = b""
        os.set_blocking(master, False)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window; the kernel tells the processes on it (SIGWINCH)."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    async def shows(self, wanted: bytes, within: float = 40.0) -> bytes:
        """Read until `wanted` appears; return and forget everything up to and with it."""
        deadline = time.monotonic() + within
        while wanted not in self.seen:
            assert time.monotonic() < deadline, f"the terminal did not show {wanted!r}: {self.seen!r}"
            if not self._take():
                await asyncio.sleep(0.01)
        shown, _, self.seen = self.seen.partition(wanted)
        return shown + wanted

    def _take(self) -> bool:
        try:
            chunk = os.read(self._master, 65536)
        except (BlockingIOError, OSError):  # OSError EIO: the other side is closed; the process's end tells
            return False
        self.seen += chunk
        return bool(chunk)


@contextlib.asynccontextmanager
async def on_terminal(kubectl: Kubectl, *arguments: str, rows: int, columns: int) -> AsyncIterator[Terminal]:
    """Run kubectl with a terminal of that size as standard input, output and error; killed at the end of the block."""
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = await asyncio.create_subprocess_exec(
            # Its controlling terminal, so that a change of size reaches it as SIGWINCH.
            *("setsid", "--ctty", *kubectl.command(*arguments)),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kubectl.environment, "TERM": "xterm"},
        )
    finally:
        os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        os.close(master)
