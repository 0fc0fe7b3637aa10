"""How fast a request body arrives (K2: slow bodies)."""

from __future__ import annotations

from hub.edge.limits import EdgeLimits


class BodyPace:
    """Judges a body by the time in which we were reading; waiting for the cluster's credit is not the client's fault.

    The judgement is made over windows of `body_grace_s`, so that one slow start does not buy an endless trickle.
    """

    __slots__ = ("_bytes", "_limits", "_paused_at", "_window_start")

    def __init__(self, limits: EdgeLimits, now: float) -> None:
        self._limits = limits
        self._window_start = now
        self._bytes = 0
        self._paused_at: float | None = None

    def received(self, n: int) -> None:
        self._bytes += n

    def paused(self, now: float) -> None:
        self._paused_at = now

    def resumed(self, now: float) -> None:
        if self._paused_at is not None:
            self._window_start += now - self._paused_at
            self._paused_at = None

    def is_too_slow(self, now: float, *, is_due: bool = True) -> bool:
        """True when a whole window brought less than the minimal rate; begins the next window otherwise. `is_due`
        False: its client waits to be asked for it (100-continue), and its time begins then."""
        if not is_due:
            self._window_start = now
            return False
        window = self._limits.body_grace_s
        if self._paused_at is not None or now - self._window_start < window:
            return False
        if self._bytes < self._limits.body_rate_min * window:
            return True
        self._window_start = now
        self._bytes = 0
        return False
