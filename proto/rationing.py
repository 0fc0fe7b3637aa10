"""Log lines that a stranger can cause as often as it likes: a few at once for each cause, then one a second; the rest
is counted, and the next line says how many were left out (facts/security.md K8)."""

import logging
from collections.abc import Callable
from typing import Final

from proto.window import Bucket

BURST: Final = 10.0
PER_S: Final = 1.0


class RationedLog:
    """Writes to `logger`. `cause` comes from a closed set of ours, never from a peer: each has a ration of its own."""

    def __init__(
        self, logger: logging.Logger, now: Callable[[], float], *, burst: float = BURST, per_s: float = PER_S
    ) -> None:
        self._logger = logger
        self._now = now
        self._ration = burst, per_s
        self._buckets: dict[str, Bucket] = {}
        self._suppressed: dict[str, int] = {}

    def log(self, level: int, event: str, cause: str, *, with_traceback: bool = False, **fields: object) -> None:
        """Write the line, or count it."""
        now = self._now()
        bucket = self._buckets.setdefault(cause, Bucket(*self._ration))
        if bucket.is_empty(now):
            self._suppressed[cause] = self._suppressed.get(cause, 0) + 1
            return
        bucket.spend(now)
        if suppressed := self._suppressed.pop(cause, 0):
            fields["suppressed"] = suppressed
        self._logger.log(level, event, exc_info=with_traceback, extra=fields)
