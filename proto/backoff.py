"""Delays between attempts to connect: full jitter under a ceiling that follows the length of the outage (D4)."""

from collections.abc import Callable
from typing import Final

FLOOR_S: Final = 0.5
CEILING_S: Final = 30.0
OUTAGE_SHARE: Final = 5.0


class Backoff:
    """Reconnect delays of one tunnel. `random` returns a float in [0, 1) and is injected, as is the time."""

    __slots__ = ("_lost_at", "_random", "_retry_at")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lost_at: float | None = None
        self._retry_at = 0.0

    def connected(self) -> None:
        """The session is open: the outage is over."""
        self._lost_at = None
        self._retry_at = 0.0

    def retry_after(self, seconds: float, now: float) -> None:
        """The hub asked for a pause (`Retry-After`, `retry_ms`): the next delay is no shorter. At most 5 min count."""
        self._retry_at = now + min(max(seconds, 0.0), 300.0)

    def delay(self, now: float) -> float:
        """Return the seconds to wait before the next attempt: uniform in [0, ceiling), and never before a wished pause.

        The ceiling is clamp(outage / 5, 0.5 s, 30 s). After a wished pause the jitter still comes on top, so that a
        fleet that was sent away together does not return together.
        """
        if self._lost_at is None:
            self._lost_at = now
        ceiling = min(max((now - self._lost_at) / OUTAGE_SHARE, FLOOR_S), CEILING_S)
        return max(self._retry_at - now, 0.0) + self._random() * ceiling
