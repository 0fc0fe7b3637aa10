"""The life of a demo: set up, hand out, stay, and end in order on Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator

from ctl import errors, output, terminal
from ctl.demo import handout, handover, leftovers, processes, progress, records, running

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
                    demo, path = entered.enter_context(handover.handed(demo, path, keep=keep))
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
        for role in [role for role, pid in watched.items() if processes.started(pid) is None]:
            del watched[role]
            terminal.say(f"{role} has ended")
        await asyncio.sleep(_LOOK_S)


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
    """A private directory for the demo, removed at the end unless it is to be kept; after those of killed demos."""
    leftovers.sweep(pathlib.Path(tempfile.gettempdir()))
    path = pathlib.Path(tempfile.mkdtemp(prefix=records.PREFIX))
    try:
        records.write(path, records.own(keep=keep))
        yield path
    finally:
        if keep:
            terminal.say(f"kept: {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)
