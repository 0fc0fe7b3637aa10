"""Connections that were accepted, and what of them each origin holds."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import OrderedDict

from hub.edge.origin import origin_of


class Accepted:
    """A connection, the address that it comes from, since when it is where it is (waiting, or in its handshake, then
    also since which turn of the listener), and whether it waited among agents. `task` does the handshake."""

    __slots__ = ("address", "is_agent", "origin", "since", "sock", "task", "turn")

    def __init__(self, sock: socket.socket, address: object, since: float) -> None:
        self.sock = sock
        self.address = address
        self.origin = origin_of(str(address[0] if isinstance(address, tuple) and address else address))
        self.since = since
        self.turn = 0
        self.is_agent = False
        self.task: asyncio.Task[None] | None = None


class Shares:
    """What each origin holds, in the order in which it came. Who holds the most is known without a look at all of
    them: they may be fifteen thousand, and he makes room for each who comes."""

    def __init__(self) -> None:
        self._all: OrderedDict[Accepted, None] = OrderedDict()
        self._held: dict[str, OrderedDict[Accepted, None]] = {}
        self._ranks: dict[int, OrderedDict[str, None]] = {}
        """Origins by how many they hold."""
        self._most = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, accepted: Accepted) -> None:
        held = self._held.get(accepted.origin)
        if held is None:
            held = self._held[accepted.origin] = OrderedDict()
        held[accepted] = None
        self._all[accepted] = None
        self._rank(accepted.origin, len(held) - 1, len(held))

    def discard(self, accepted: Accepted) -> None:
        if accepted not in self._all:
            return
        del self._all[accepted]
        held = self._held[accepted.origin]
        del held[accepted]
        if not held:
            del self._held[accepted.origin]
        self._rank(accepted.origin, len(held) + 1, len(held))

    def count(self, origin: str) -> int:
        held = self._held.get(origin)
        return 0 if held is None else len(held)

    def oldest(self) -> Accepted | None:
        return next(iter(self._all), None)

    def latest(self, most: int) -> list[Accepted]:
        """The newest of them, in the order in which they came."""
        found = list(itertools.islice(reversed(self._all), most))
        found.reverse()
        return found

    def pop(self, besides: str | None = None) -> Accepted | None:
        """Take out the newest. Of another origin than that, where there is one: of the one that has held something for
        longest."""
        found: Accepted | None = next(reversed(self._all), None)
        if besides is not None:
            for origin in itertools.islice(self._held, 2):
                if origin != besides:
                    found = next(reversed(self._held[origin]))
                    break
        if found is not None:
            self.discard(found)
        return found

    def oldest_of_greediest(self) -> Accepted | None:
        """Of several who hold as many the one that has for longest; None if nobody holds anything."""
        return next(iter(self._held[next(iter(self._ranks[self._most]))])) if self._all else None

    def _rank(self, origin: str, was: int, now: int) -> None:
        if was:
            del self._ranks[was][origin]
            if not self._ranks[was]:
                del self._ranks[was]
        if now:
            rank = self._ranks.get(now)
            if rank is None:
                rank = self._ranks[now] = OrderedDict()
            rank[origin] = None
        if now > self._most or self._most not in self._ranks:
            self._most = now
