"""The command tree of `riata`, and how a command ends: an exit code, and a message when it failed."""

import asyncio
import concurrent.futures
import contextlib
import inspect
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from ctl import errors, terminal
from ctl.commands import (
    about,
    agent_tokens,
    agents,
    clusters,
    demo,
    doctor,
    grants,
    join_tokens,
    kubeconfig,
    login,
    tokens,
)
from proto import versions


def build() -> App:
    """The command tree; docs/reference/cli.md and the completion scripts are made from it."""
    app = App(
        name="riata",
        help="Operate a riata hub: clusters, grants, tokens and kubeconfigs.",
        version=versions.PRODUCT_VERSION,
        help_format="markdown",
        default_parameter=Parameter(show_default=_default),
    )
    app.command(login.login)
    app.command(login.logout)
    app.command(login.whoami)
    for group in (clusters, agents, join_tokens, agent_tokens, grants, tokens):
        app.command(group.app)
    app.command(kubeconfig.kubeconfig)
    app.command(doctor.doctor)
    app.command(demo.demo)
    app.command(about.version)
    app.command(about.completion_of(app))
    return app


def _default(value: object) -> str | None:
    """What the help shows as a default: nothing where leaving an option out just means no."""
    return str(value) if value else None


async def execute(arguments: Sequence[str]) -> errors.Exit:
    """Run one command line and say how it ended. Data is on standard output, messages are on standard error."""
    try:
        command, bound, _ = build().parse_args(list(arguments), exit_on_error=False, print_error=False)
        if inspect.iscoroutinefunction(command):
            await command(*bound.args, **bound.kwargs)
        else:
            with terminal.writing():  # help and version, which cyclopts writes itself
                command(*bound.args, **bound.kwargs)
    except CycloptsError as exc:
        terminal.say(errors.UsageError(_usage(exc), cure="riata --help, or --help behind the command").render())
        return errors.Exit.USAGE
    except errors.CommandError as exc:
        terminal.say(exc.render())
        return exc.exit_code
    return errors.Exit.OK


def _usage(exc: CycloptsError) -> str:
    return " ".join(str(exc).split())


class _Loop(asyncio.SelectorEventLoop):
    """Ends without waiting for threads: a resolver that does not answer holds the one that asks it for half a minute,
    and Ctrl-C with it. What has to be done is waited for where it was begun."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="riata")
        self.set_default_executor(self._threads)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 asyncio's own
        self._threads.shutdown(wait=False, cancel_futures=True)


def run(arguments: Sequence[str]) -> int:
    """The process: `execute` in an event loop, Ctrl-C and a closed pipe included."""
    terminal.settle()
    try:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            return int(runner.run(execute(arguments)))
    except KeyboardInterrupt:
        return int(errors.Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away (`riata … | head`): say nothing about it at exit
        return int(errors.Exit.FAILURE)


def leave(code: int) -> NoReturn:
    """End the process with `code`. The interpreter itself would wait for the threads that `_Loop` did not."""
    if threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, none
                stream.flush()
        os._exit(code)
    sys.exit(code)
