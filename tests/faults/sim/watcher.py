"""An informer in virtual time: it watches, resumes behind the last event it has, and misses none."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.faults.sim.client import Client
from tests.faults.sim.programs import event, version

if TYPE_CHECKING:
    from tests.faults.sim.world import World

BEHIND_S = 10.0
"""How far it may be behind what happens when nothing is wrong any more."""


class Watch(Client):
    """One request of an informer."""

    def __init__(self, world: "World", dice: random.Random, name: str, since: int, ended: Callable[[], None]) -> None:
        super().__init__(world, dice, name, "GET", 0, 0.0)
        self.path = f"/api/v1/{name}?watch=1&resourceVersion={since}"
        self.leaves_after = None
        self.ended = ended

    def finish(self, *, is_reusable: bool) -> None:
        super().finish(is_reusable=is_reusable)
        self.ended()

    def abort(self) -> None:
        super().abort()
        self.ended()


class Watcher:
    """Watches for the life of a world."""

    def __init__(self, world: "World", dice: random.Random, name: str) -> None:
        self._world = world
        self._dice = dice
        self.name = name
        self.seen = 0
        """Number of the last event it has."""
        self.clean_ends = self.cuts = 0
        self.is_over = False
        self._watch: Watch | None = None

    def begin(self) -> None:
        self.seen = version(self._world.now())
        self._again()

    def stop(self) -> None:
        """It leaves, and must have seen everything that happened a while ago."""
        self.is_over = True
        if self._watch is not None and not self._watch.fate:
            self._take(self._watch, self.seen)
            self._watch.leave()
        due = version(self._world.now() - BEHIND_S)
        if self.seen < due:
            self._world.broken.append(f"{self.name}: has seen {self.seen} of {due} events")

    def _again(self) -> None:
        if not self.is_over:
            watch = Watch(self._world, self._dice, self.name, self.seen, lambda: self._ended(watch))
            self._watch = watch
            watch.begin()

    def _ended(self, watch: Watch) -> None:
        if watch.status == 200:
            rest = self._take(watch, self.seen)
            if watch.fate == "whole" and rest:
                self._world.broken.append(f"{self.name}: a clean end within event {self.seen + 1}")
            self.clean_ends += watch.fate == "whole"
            self.cuts += watch.fate == "cut"
        elif watch.fate not in {"503", "504", "429", "cut"}:
            self._world.broken.append(f"{self.name}: a watch got {watch.fate}")
        if not self.is_over:
            asyncio.get_running_loop().call_later(self._dice.random(), self._again)

    def _take(self, watch: Watch, since: int) -> bytes:
        """Every event once, in order, nothing else; what is left is the beginning of the next one."""
        *whole, rest = bytes(watch.body).split(b"\n")
        for number, line in enumerate(whole, start=since + 1):
            if line + b"\n" != event(self.name, number):
                self._world.broken.append(f"{self.name}: not event {number}: {line[:60]!r}")
            self.seen = number
        if not event(self.name, self.seen + 1).startswith(rest):
            self._world.broken.append(f"{self.name}: not the beginning of event {self.seen + 1}: {rest[:60]!r}")
        return rest
