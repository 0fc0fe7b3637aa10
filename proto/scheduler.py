"""Which stream writes next: classes by weight, streams of a class in turn.

Interactive goes before normal before bulk, but a class that waited while the higher ones moved many bytes gets its
turn: normal after 3 and bulk after 9 bytes to one, so bulk keeps at least a tenth. Within a class streams take turns of
one quantum (deficit round robin; since a frame is cut to fit, no deficit is ever left over). A stream that moved
128 KiB without a pause is served as bulk until it pauses: what a stream does counts for more than what it claims.
"""

from typing import Final

from proto import limits as bounds
from proto.messages import StreamClass
from proto.pieces import Buffer
from proto.stream import Stream
from proto.transitions import HalfState

NORMAL_SHARE: Final = 3
BULK_SHARE: Final = 9

_BULK_OWED_MAX: Final = 2 * BULK_SHARE * bounds.DATA_MAX_BYTES
"""Bulk that was held back for long is owed two turns, not a burst that a keystroke would wait behind."""
_RESET: Final = int(HalfState.RESET)
_NORMAL: Final = int(StreamClass.NORMAL)
_BULK: Final = int(StreamClass.BULK)


class Scheduler:
    """Streams with something to send."""

    __slots__ = (
        "_bulk",
        "_bulk_owed",
        "_dead",
        "_demote_bytes",
        "_interactive",
        "_normal",
        "_normal_owed",
        "_pause",
        "_rings",
        "bulk_bytes",
    )

    def __init__(self, limits: bounds.Limits) -> None:
        self._demote_bytes = limits.demote_bytes
        self._pause = limits.demote_pause_s
        self._interactive: list[Stream] = []
        self._normal: list[Stream] = []
        self._bulk: list[Stream] = []
        self._rings = (self._interactive, self._normal, self._bulk)
        self._dead = 0
        """Streams in the rings that were reset since."""
        self._normal_owed = 0
        self._bulk_owed = 0
        self.bulk_bytes = 0
        """DATA served as bulk so far."""

    def __bool__(self) -> bool:
        return bool(self._interactive or self._normal or self._bulk)

    @property
    def has_bulk(self) -> bool:
        """A stream that is served as bulk waits for its turn."""
        return bool(self._bulk)

    @property
    def has_urgent(self) -> bool:
        """A stream that is not served as bulk waits for its turn."""
        return bool(self._interactive or self._normal)

    def add(self, stream: Stream, now: float) -> None:
        """Queue a stream that has become ready. One that is queued already stays where it is."""
        if stream.in_ring:
            return
        if stream.moved and not stream.is_blocked and now - stream.served_at > self._pause:
            stream.moved = 0
        self._append(stream)

    def _append(self, stream: Stream) -> None:
        stream.in_ring = True
        self._rings[_BULK if stream.moved >= self._demote_bytes else stream.cls].append(stream)

    def bury(self) -> None:
        """A queued stream was reset. It is passed over in its turn, which may never come: a peer that returns no credit
        would have us keep every one. So they go at once when they outnumber the living, in O(1) each over all."""
        self._dead += 1
        if self._dead * 2 > len(self._interactive) + len(self._normal) + len(self._bulk):
            self._dead = 0
            for ring in self._rings:
                ring[:] = [stream for stream in ring if stream.own_half != _RESET]

    def clear(self) -> None:
        """Forget every stream: the session is over."""
        self._dead = 0
        for ring in self._rings:
            ring.clear()

    def serve(self, out: list[Buffer], quantum: int, now: float, *, may_bulk: bool = True) -> tuple[Stream, int] | None:
        """Let the next stream write one turn into `out`. Return it and its DATA bytes, or None when none is ready.

        Without `may_bulk` the streams that are served as bulk keep their places.
        """
        while (level := self._pick(may_bulk)) is not None:
            stream = self._rings[level].pop(0)
            stream.in_ring = False
            if not stream.is_ready():  # reset, or out of credit, since it was queued
                stream.is_blocked = stream.queued > 0
                self._dead -= stream.own_half == _RESET
                continue
            size = stream.fill(out, quantum)
            self._account(level, size)
            stream.served_at = now
            if stream.is_ready():
                self._append(stream)
            else:
                stream.is_blocked = stream.queued > 0  # waiting for credit is no pause of its source
            return stream, size
        return None

    def _pick(self, may_bulk: bool) -> int | None:
        has_higher = bool(self._interactive or self._normal)
        if may_bulk and self._bulk and (not has_higher or self._bulk_owed >= BULK_SHARE * bounds.DATA_MAX_BYTES):
            return _BULK
        if self._normal and (not self._interactive or self._normal_owed >= NORMAL_SHARE * bounds.DATA_MAX_BYTES):
            return _NORMAL
        return 0 if self._interactive else None

    def _account(self, level: int, size: int) -> None:
        """Remember what the lower classes let pass, as long as they have something to send."""
        if level == _BULK:
            self.bulk_bytes += size
            self._bulk_owed = max(self._bulk_owed - BULK_SHARE * size, 0)
            return
        self._bulk_owed = min(self._bulk_owed + size, _BULK_OWED_MAX) if self._bulk else 0
        if level == _NORMAL:
            self._normal_owed = max(self._normal_owed - NORMAL_SHARE * size, 0)
        else:
            self._normal_owed = self._normal_owed + size if self._normal else 0
