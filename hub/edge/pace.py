"""How fast a request body arrives (K2: slow bodies)."""

from __future__ import annotations

from typing import Final

from hub.edge.limits import EdgeLimits

UNASKED_S: Final = 120.0
"""How long a client may wait to be asked for its body, as long as others for an answer (`answer_timeout_s`): an agent
that takes the request and never says so would hold connection and places for ever."""


class BodyPace:
    """Judges a body by the time in which we were reading; waiting for the cluster's credit is not the client's fault.

    The judgement is made over windows of `body_grace_s`, so that one slow start does not buy an endless trickle.
    """

    __slots__ = ("_began", "_bytes", "_limits", "_paused_at", "_window_start")

    def __init__(self, limits: EdgeLimits, now: float) -> None:
        self._limits = limits
        self._began = self._window_start = now
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
        False: its client waits to be asked for it (100-continue), and its time begins then, or ends with UNASKED_S."""
        if not is_due:
            self._window_start = now
            return now - self._began >= UNASKED_S
        window = self._limits.body_grace_s
        if self._paused_at is not None or now - self._window_start < window:
            return False
        if self._bytes < self._limits.body_rate_min * window:
            return True
        self._window_start = now
        self._bytes = 0
        return False
