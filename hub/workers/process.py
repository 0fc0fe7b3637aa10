"""Starting a worker as a process, and its end with the main one."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_ROOT: Final = Path(__file__).parents[2]
"""Where `hub` was imported from: a worker has to run the same code, wherever it is started."""


async def spawn(descriptor: int) -> asyncio.subprocess.Process:
    """A worker that inherits the descriptor of its channel, and nothing else but the standard streams."""
    path = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else str(_ROOT)}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hub.workers", str(descriptor), str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env=environment,
    )


def end_with(parent: int) -> None:
    """In the worker: be killed when the main process ends, however it ends. The channel's end says so too, but only to
    a loop that runs. Raises ProcessLookupError when it has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise ProcessLookupError("the main process has ended")


def leave_signals() -> None:
    """In the worker: a terminal or a service manager signals the whole group, and the main process decides."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
