"""Shows what the demo is doing, on standard error: a live list on a terminal, a line a step elsewhere."""

import contextlib
import time
import types
from collections.abc import Iterator
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ctl import terminal


class Steps:
    """`with Steps() as steps: with steps.step("hub"): …`; steps may overlap."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: types.TracebackType | None
    ) -> None:
        self._live.stop()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show `text` as under way, then as done with its time. One that fails stays without its mark."""
        started = time.monotonic()
        task = self._live.add_task(text, total=1)
        try:
            yield
        except BaseException:
            self._live.stop_task(task)
            raise
        self._live.update(task, completed=1)
        if self._live.disable:
            terminal.say(f"{text}: {time.monotonic() - started:.1f} s")

    def note(self, text: str) -> None:
        """A remark that stays above the list."""
        if self._live.disable:
            terminal.say(text)
        else:
            self._live.console.print(terminal.clean(text), markup=False, highlight=False)
