"""One stream: two halves, their credit, and the queue of what we still have to send.

A stream knows how to fill its next DATA frame; when it may is the scheduler's business, what a frame means the
session's.
"""

import collections
from typing import Final

from proto.errors import Code
from proto.frames import HEADER, Flag, FrameType
from proto.messages import StreamClass, StreamKind
from proto.pieces import Buffer, put
from proto.transitions import HalfState

_DATA: Final = int(FrameType.DATA)
_FIN: Final = int(Flag.FIN)
_ENDED: Final = int(HalfState.ENDED)
_RESET: Final = int(HalfState.RESET)
_NONE: Final = Code.NONE
_pack: Final = HEADER.pack


class Stream:
    """State of one stream. Only the session and its parts write the fields."""

    __slots__ = (
        "buffered",
        "cls",
        "data_at",
        "end_queued",
        "granted_at",
        "has_head",
        "id",
        "in_ring",
        "is_answered",
        "is_blocked",
        "is_held",
        "is_moving",
        "is_muted",
        "is_ours",
        "is_safe",
        "is_timed",
        "is_upgrade",
        "kind",
        "moved",
        "moved_in",
        "opened_at",
        "opening_credit",
        "own_half",
        "peer_half",
        "prefix",
        "prefix_ends",
        "promised",
        "queue",
        "queued",
        "receive_left",
        "reset_code",
        "send_left",
        "sent_at",
        "served_at",
        "suffix",
        "user",
        "waits_writable",
        "window",
        "window_pending",
    )

    def __init__(
        self,
        stream_id: int,
        kind: StreamKind,
        cls: StreamClass,
        *,
        is_ours: bool,
        window: int,
        send_left: int,
        now: float,
    ) -> None:
        self.id = stream_id
        self.kind = kind
        self.cls = cls
        self.is_ours = is_ours
        self.user: object = None
        """The driver's handle; the core does not look at it."""
        self.has_head = kind == 1
        self.is_safe = False
        """A GET or HEAD request: its HEAD may come without ACCEPT."""
        self.is_upgrade = False
        self.is_answered = False
        """The acceptor said ACCEPT or HEAD."""
        self.is_timed = False
        """The driver has reported how long the answer took."""
        self.is_muted = False
        """Reset by ourselves: no further event reaches the owner."""
        self.own_half = 0
        self.peer_half = 0
        self.reset_code = _NONE
        self.opened_at = now

        self.window = window
        """What the peer's outstanding credit and our unconsumed bytes add up to at most."""
        self.receive_left = window
        self.buffered = 0
        """Received and not yet consumed."""
        self.opening_credit = window if is_ours else send_left
        """What OPEN gave for the answer."""
        self.promised = 0
        """What of its window the process's budget counts as promised."""
        self.granted_at = now
        self.moved_in = 0
        """When it was granted credit last, as `Movers` tells it."""
        self.data_at = now
        self.window_pending = False
        self.is_moving = False
        """Something was consumed since the budget last looked."""

        self.send_left = send_left
        self.prefix: bytes | None = None
        """OPEN or HEAD frame that leaves before the queue."""
        self.prefix_ends = False
        self.queue: collections.deque[Buffer] | None = None
        self.queued = 0
        self.suffix: bytes | None = None
        """TRAILERS frame that leaves after the queue."""
        self.end_queued = False
        self.is_held = False
        """Our OPEN has not left yet."""
        self.sent_at = 0.0
        """When our OPEN left."""
        self.in_ring = False
        self.is_blocked = False
        """It left the scheduler for lack of credit, with bytes still queued."""
        self.waits_writable = False
        self.moved = 0
        self.served_at = now
        """When the scheduler let it write last."""

    @property
    def is_closed(self) -> bool:
        """Both halves are complete, or the stream was reset."""
        return self.own_half >= _ENDED and self.peer_half >= _ENDED

    @property
    def is_reset(self) -> bool:
        return self.own_half == _RESET

    def is_ready(self) -> bool:
        """Tell whether `fill` would write something."""
        if self.is_held or self.own_half >= _ENDED:
            return False
        if self.queued:
            return self.send_left > 0 or self.prefix is not None
        return self.prefix is not None or self.end_queued

    def push(self, data: Buffer) -> None:
        """Append bytes to the queue (proto.pieces)."""
        queue = self.queue
        if queue is None:
            queue = self.queue = collections.deque()
        self.queued += len(data)
        put(queue, data)

    def drop(self) -> int:
        """Forget everything unsent; return how many queued bytes that were."""
        dropped, self.queued = self.queued, 0
        self.queue = self.prefix = self.suffix = None
        return dropped

    def fill(self, out: list[Buffer], quantum: int) -> int:
        """Append the stream's next frames to `out`, with at most `quantum` bytes of DATA; return those bytes.

        At most one DATA frame is written, over as many chunks of the queue as fit; `own_half` becomes ENDED when the
        last frame of our half was written.
        """
        if self.prefix is not None:
            out.append(self.prefix)
            self.prefix = None
            if self.prefix_ends:
                self.own_half = _ENDED
                return 0
        size = min(quantum, self.send_left, self.queued)
        if size > 0:
            is_last = self.end_queued and size == self.queued and self.suffix is None
            out.append(_pack(_DATA, _FIN if is_last else 0, size, self.id))
            self._move(out, size)
            self.send_left -= size
            self.moved += size
            if is_last:
                self.own_half = _ENDED
        elif self.end_queued and not self.queued and self.suffix is None:
            out.append(_pack(_DATA, _FIN, 0, self.id))
            self.own_half = _ENDED
        if self.suffix is not None and not self.queued:
            out.append(self.suffix)
            self.suffix = None
            self.own_half = _ENDED
        return max(size, 0)

    def _move(self, out: list[Buffer], size: int) -> None:
        """Move `size` queued bytes to `out`."""
        queue = self.queue
        assert queue is not None  # queued > 0
        self.queued -= size
        while size:
            chunk = queue[0]
            length = len(chunk)
            if length <= size:
                out.append(queue.popleft())
                size -= length
            else:
                view = memoryview(chunk)
                out.append(view[:size])
                queue[0] = view[size:]
                size = 0
