"""The life of a demo: set up, hand out, stay, and end in order on Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator

from ctl import errors, output, terminal
from ctl.demo import handout, progress, running

Source = Callable[[pathlib.Path, progress.Steps], contextlib.AbstractAsyncContextManager[running.Running]]

_LOOK_S = 1.0


async def live(source: Source, *, form: str, keep: bool) -> None:
    """Run the demo of `source` until somebody ends it. CommandError when it cannot be set up."""
    is_ready = False
    task = asyncio.current_task()
    assert task is not None
    with _directory(keep=keep) as directory, _signals(task):
        try:
            async with contextlib.AsyncExitStack() as entered:
                with progress.Steps() as steps:
                    demo = await entered.enter_async_context(source(directory, steps))
                    path = await handout.kubeconfig(demo)
                is_ready = True
                _hand_out(demo, path, form)
                await _stay(demo)
        except asyncio.CancelledError:
            task.uncancel()
            if not is_ready:
                raise errors.CommandError("ended before it was ready", exit_code=errors.Exit.INTERRUPTED) from None
            terminal.say("the demo has ended")


def _hand_out(demo: running.Running, path: pathlib.Path, form: str) -> None:
    if form in {"json", "yaml"}:
        output.document(demo.document(path), form)
    else:
        terminal.data(handout.guide(demo, path))
    terminal.say("ready; Ctrl-C ends it")


async def _stay(demo: running.Running) -> None:
    """Until cancelled. Says when a process of the demo ends; the rest stays, for it may be on purpose."""
    watched = dict(demo.pids)
    while True:
        for role in [role for role, pid in watched.items() if not _alive(pid)]:
            del watched[role]
            terminal.say(f"{role} has ended")
        await asyncio.sleep(_LOOK_S)


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for (a zombie) does not."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    if pathlib.Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _signals(task: "asyncio.Task[object]") -> Iterator[None]:
    """SIGINT, SIGTERM and a closed terminal cancel `task`, once: the bounded cleaning up must not be stopped."""
    loop = asyncio.get_running_loop()
    asked = False

    def ask() -> None:
        nonlocal asked
        if asked:
            terminal.say("ending already; a few seconds")
            return
        asked = True
        task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _directory(*, keep: bool) -> Iterator[pathlib.Path]:
    """A private directory for the demo, removed at the end unless it is to be kept."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="riata-demo-"))
    try:
        yield path
    finally:
        if keep:
            terminal.say(f"kept: {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)
