"""Is the peer alive, how far away is it, and did our own loop stand still? (D4, P3, P7)

While a session is in use both sides ping. On an idle one the hub does, and the agent listens: a byte of the hub shows
that it hears the agent too, because it ends the session when a ping of its own stays unanswered. An agent that hears
nothing pings, so each side notices by itself whichever direction went dead.
"""

from typing import Final

from proto import limits as bounds
from proto.frames import U32

LISTEN_SHARE: Final = 1.25
"""Of the idle interval: how long a listening side waits for a byte of the peer before it pings itself."""
BULK_BYTES: Final = 4096
"""A message of the peer from this size on is bulk on its way, behind which the answer to a ping may wait. So is what
left between two pings (`proto.pacing`) whose first one was answered: the second may wait behind it."""
BULK_GRACE: Final = 3
"""… for up to this many times `pong_timeout_s`, while it keeps moving: after losses TCP stands still for seconds, so no
pause short of `silent_s` says that it does not."""

_SAMPLES: Final = 8


class Liveness:
    """Pings and their answers of one session, and the beat of the loop that drives it."""

    __slots__ = (
        "_active_until",
        "_beat_at",
        "_bulk_at",
        "_count",
        "_is_listening",
        "_limits",
        "_pinged_at",
        "_samples",
        "_unanswered",
        "answered_sent_at",
        "best_rtt_s",
        "last_received_at",
        "rtt_s",
        "shortest_rtt_s",
    )

    def __init__(self, limits: bounds.Limits, *, is_listening: bool = False) -> None:
        """`is_listening`: on an idle session we leave the pings to the peer as long as we hear it."""
        self._limits = limits
        self._is_listening = is_listening
        self._beat_at = 0.0
        self._bulk_at = float("-inf")
        self._active_until = 0.0
        self._pinged_at = 0.0
        self._count = 0
        self._unanswered: list[tuple[bytes, float]] = []
        self._samples: list[float] = []
        self.best_rtt_s: float | None = None
        """Smallest of the last eight round trips: free of queues, so window growth is not fooled by its own queue."""
        self.shortest_rtt_s: float | None = None
        """Of all the session's round trips."""
        self.last_received_at = 0.0
        self.rtt_s: float | None = None
        """Smoothed round trip (weight 1/8), None before the first answer."""
        self.answered_sent_at = float("-inf")
        """When the last answered ping was made: the peer has seen everything that left before it."""

    def start(self, now: float) -> None:
        """The session opens: count from here."""
        self._beat_at = self.last_received_at = now

    def beat(self, now: float) -> bool:
        """Note that the loop runs. False when it stood still for so long that the peer has given up on us."""
        gap = now - self._beat_at
        self._beat_at = now
        return gap <= self._limits.dead_s

    @property
    def unanswered_ping_at(self) -> float | None:
        """When the oldest ping without an answer was sent."""
        return self._unanswered[0][1] if self._unanswered else None

    def heard(self, size: int, now: float) -> None:
        """A message of `size` bytes arrived, or a part of it."""
        self.last_received_at = now
        if size >= BULK_BYTES:
            self._bulk_at = now

    def active(self, now: float) -> None:
        """A stream that uses the tunnel was opened: any but a command."""
        self._active_until = now + self._limits.active_memory_s

    def ping_at(self, *, has_streams: bool, now: float) -> float:
        """When the next ping should leave, as long as none is unanswered."""
        if has_streams or now < self._active_until:
            return self._pinged_at + self._limits.ping_active_s
        if self._is_listening:
            return max(self._pinged_at, self.last_received_at) + self._limits.ping_idle_s * LISTEN_SHARE
        return self._pinged_at + self._limits.ping_idle_s

    def is_ping_due(self, *, has_streams: bool, now: float) -> bool:
        """Tell whether a ping should leave. Never while one is unanswered."""
        return not self._unanswered and now >= self.ping_at(has_streams=has_streams, now=now)

    def ping(self, now: float) -> bytes:
        """Return the eight bytes of the next PING."""
        self._count += 1
        nonce = U32.pack(0) + U32.pack(self._count & 0xFFFFFFFF)
        self._unanswered.append((nonce, now))
        self._pinged_at = now
        return nonce

    def pong(self, nonce: bytes, now: float) -> float | None:
        """Return the round trip in seconds of the oldest ping when `nonce` answers it, None otherwise."""
        if not self._unanswered or self._unanswered[0][0] != nonce:
            return None
        sent_at = self._unanswered.pop(0)[1]
        self.answered_sent_at = sent_at
        if self._unanswered:
            self._bulk_at = now
        rtt = max(now - sent_at, 0.0)
        self._samples.append(rtt)
        del self._samples[:-_SAMPLES]
        self.best_rtt_s = min(self._samples)
        self.shortest_rtt_s = rtt if self.shortest_rtt_s is None else min(rtt, self.shortest_rtt_s)
        self.rtt_s = rtt if self.rtt_s is None else self.rtt_s + (rtt - self.rtt_s) / 8
        return rtt

    def is_dead(self, now: float, *, has_streams: bool = False) -> bool:
        """Tell whether a ping has been unanswered for too long, or, in use, nothing at all has come for too long.

        While bulk moves the answer may wait behind it, in queues that are not ours: it gets more time then.
        """
        if not self._unanswered:
            return False
        if now >= self._silent_at(has_streams=has_streams, now=now):
            return True
        # Sums as in `next_at`: a difference may be an ulp smaller, and the verdict a beat late.
        sent_at, patience = self._unanswered[0][1], self._limits.pong_timeout_s
        if now < sent_at + patience:
            return False
        return now >= sent_at + BULK_GRACE * patience or now >= self._bulk_at + self._limits.silent_s

    def last_words(self, now: float) -> str:
        """Return what the verdict rests on, for the log."""
        sent_at = self._unanswered[0][1] if self._unanswered else now
        silence = now - self.last_received_at
        return f"a ping stayed unanswered for {now - sent_at:.1f} s, nothing came for {silence:.1f} s"

    def _silent_at(self, *, has_streams: bool, now: float) -> float:
        """When a silence beside an unanswered ping has lasted too long; never on an idle tunnel, which is silent."""
        if not has_streams and now >= self._active_until:
            return float("inf")
        # The silence before the ping counts as one interval of pings: the tunnel may just have come into use.
        heard_at = max(self.last_received_at, self._unanswered[0][1] - self._limits.ping_active_s)
        return heard_at + self._limits.silent_s

    def next_at(self, *, has_streams: bool, now: float) -> float:
        """Return when the session wants to be woken: the next beat, ping or verdict, whichever is first."""
        due = self._beat_at + self._limits.beat_s
        if self._unanswered:
            if self.is_dead(now, has_streams=has_streams):
                return now  # it became so since the session looked: a beat later would be a second later
            verdicts = (
                self._unanswered[0][1] + self._limits.pong_timeout_s,
                self._bulk_at + self._limits.silent_s,
                self._silent_at(has_streams=has_streams, now=now),
            )
            return min(due, *(each for each in verdicts if each > now))
        return min(due, self.ping_at(has_streams=has_streams, now=now))
