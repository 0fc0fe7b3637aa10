"""What is remembered of those who are not here any more: bounded, for ids come and go for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

M = TypeVar("M")

KEEP: Final = 20_000
"""Entries: a few MiB. Who is forgotten is shown without a time."""


class LastSeen(Generic[M]):
    """By id, the latest `keep`."""

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._moments: dict[str, M] = {}

    def __len__(self) -> int:
        return len(self._moments)

    def __iter__(self) -> Iterator[M]:
        """What is remembered, the oldest first."""
        return iter(tuple(self._moments.values()))

    def note(self, who: str, moment: M) -> None:
        """`who` was here until `moment`."""
        self._moments.pop(who, None)
        self._moments[who] = moment
        if len(self._moments) > self._keep:
            del self._moments[next(iter(self._moments))]

    def get(self, who: str) -> M | None:
        return self._moments.get(who)

    def forget(self, who: str) -> None:
        self._moments.pop(who, None)
