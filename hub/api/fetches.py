"""How often one join token may fetch its manifest: making one costs the loop tens of milliseconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Final

from hub.clock import Clock
from hub.errors import TooManyRequests
from proto.window import Bucket

BURST: Final = 10
"""Fetches of one token in a row: a person who pastes again and again."""
PER_S: Final = 1 / 6
"""… and in the long run. With several workers, of each."""


@dataclasses.dataclass(slots=True)
class FetchLimit:
    """Buckets of tokens that are known, so no more than there are records."""

    clock: Clock
    _buckets: dict[str, Bucket] = dataclasses.field(default_factory=dict)

    def take(self, token_id: str) -> None:
        """One fetch. Raises TooManyRequests."""
        bucket = self._buckets.setdefault(token_id, Bucket(BURST, PER_S))
        if bucket.is_empty(now := self.clock()):
            raise TooManyRequests("this join token has fetched its manifest too often", retry_after_s=int(1 / PER_S))
        bucket.spend(now)

    def keep(self, known: Container[str]) -> None:
        """Forget the tokens that are not among these."""
        for token_id in [each for each in self._buckets if each not in known]:
            del self._buckets[token_id]
