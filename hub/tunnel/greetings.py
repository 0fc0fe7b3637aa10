"""Peers between their upgrade and WELCOME. They are nobody yet, so their number is bounded, and who wastes a place
yields it: two hundred silent WebSockets of anybody must not keep every agent of the fleet out."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 2.0
"""A handshake needs one round trip behind the upgrade; one this old gives way when no place is left."""


class Greeting:
    """One place. `evict` ends its connection."""

    __slots__ = ("evict", "origin", "since")

    def __init__(self, origin: str, since: float, evict: Callable[[], None]) -> None:
        self.origin = origin
        self.since = since
        self.evict = evict


class Greetings:
    """At most `most` at once. Full, a place is taken from the origin that holds the most of them, if that is more
    than the newcomer's own; else from the oldest, if it is old."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._places: dict[Greeting, None] = {}
        self._by_origin: collections.Counter[str] = collections.Counter()

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, origin: str, evict: Callable[[], None]) -> Greeting | None:
        """A place for a peer from `origin` (hub.edge.origin), None when there is none."""
        if len(self._places) >= self._most:
            loser = self._loser(origin)
            if loser is None:
                return None
            self.leave(loser)
            loser.evict()
        greeting = Greeting(origin, self._now(), evict)
        self._places[greeting] = None
        self._by_origin[origin] += 1
        return greeting

    def leave(self, greeting: Greeting) -> None:
        """Give a place back; nothing for one that was taken away."""
        if greeting not in self._places:
            return
        del self._places[greeting]
        self._by_origin[greeting.origin] -= 1
        if not self._by_origin[greeting.origin]:
            del self._by_origin[greeting.origin]

    def _loser(self, origin: str) -> Greeting | None:
        greediest, count = self._by_origin.most_common(1)[0]
        if count > self._by_origin[origin] + 1:
            return next(greeting for greeting in self._places if greeting.origin == greediest)
        oldest = next(iter(self._places))
        return oldest if self._now() - oldest.since >= PATIENCE_S else None
