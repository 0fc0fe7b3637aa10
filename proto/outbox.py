"""Everything a session still has to write, and the next WebSocket message made of it.

Order within a message: control frames, WINDOWs, OPENs, then the streams as the scheduler says, then one-shot messages,
then at times the PING that measures the link (proto.pacing).
RESET overtakes the queued bytes of its stream (they are dropped), WINDOWs wait as marks on their streams (one each,
however often they grow), OPENs leave in the order of their ids.
"""

from collections.abc import Callable
from typing import Final

from proto import errors
from proto import limits as bounds
from proto.frames import HEADER, U32, Flag, FrameType
from proto.pacing import Pacing
from proto.pieces import Buffer
from proto.scheduler import Scheduler
from proto.stream import Stream
from proto.transitions import HalfState
from proto.window import SessionCredit

_PING: Final = int(FrameType.PING)
_WINDOW: Final = int(FrameType.WINDOW)
_MSG: Final = int(FrameType.MSG)
_ENDED: Final = int(HalfState.ENDED)


def _nothing(stream: Stream, now: float) -> int:
    """What an ended session grants."""
    return 0


class Outbox:
    """Unwritten frames of one session."""

    __slots__ = (
        "_control",
        "_control_bytes",
        "_credit",
        "_data_bytes",
        "_forgotten",
        "_grant",
        "_limits",
        "_message_bytes",
        "_messages",
        "_open_bytes",
        "_opens",
        "_ping",
        "_session_window_due",
        "_windows",
        "backlog_room",
        "dropped_messages",
        "finished",
        "pacing",
        "queued",
        "scheduler",
        "sent_bytes",
    )

    def __init__(
        self,
        limits: bounds.Limits,
        data_bytes: int,
        backlog: int,
        credit: SessionCredit,
        grant: Callable[[Stream, float], int],
        pacing: Pacing,
        ping: Callable[[float], bytes],
    ) -> None:
        """`grant` gives a stream's credit to return, `ping` the eight bytes of a PING that leaves now."""
        self._limits = limits
        self._data_bytes = data_bytes
        self._credit = credit
        self._grant = grant
        self.pacing = pacing
        self._ping = ping
        self._control: list[bytes] = []
        self._control_bytes = 0
        self._windows: list[Stream] = []
        self._session_window_due = False
        self._opens: list[Stream] = []
        self._open_bytes = 0
        self._forgotten = 0
        """Streams in `_opens` that are held no more: reset before their OPEN could leave."""
        self.backlog_room = backlog
        """OPENs that may still leave before the peer answers one."""
        self._messages: list[tuple[int, bytes]] = []
        self._message_bytes = 0
        self.dropped_messages = 0
        """MSG frames dropped for lack of room."""
        self.scheduler = Scheduler(limits)
        self.finished: list[Stream] = []
        """Streams whose half was completed, or whose queue shrank below the low mark, by the last `take`."""
        self.queued = 0
        """DATA bytes in the queues of all streams."""
        self.sent_bytes = [0, 0, 0]
        """DATA bytes written, by class."""

    def __bool__(self) -> bool:
        """Tell whether `take` would return a message."""
        return bool(
            self._control
            or self._windows
            or self._session_window_due
            or (self._opens and self.backlog_room > 0)
            or (
                self._credit.send_left > 0
                and (self.scheduler.has_urgent or (self.scheduler.has_bulk and not self.pacing.is_blocked))
            )
            or self._messages
        )

    @property
    def is_stalled(self) -> bool:
        """DATA is queued, and all of it waits for credit of the peer."""
        return self.queued > 0 and not (self.scheduler and self._credit.send_left > 0)

    @property
    def control_overflow(self) -> bool:
        """More control frames wait than a living peer lets pile up."""
        return self._control_bytes > self._limits.control_queue_bytes

    def control(self, frame: bytes) -> None:
        """Queue a control frame."""
        self._control.append(frame)
        self._control_bytes += len(frame)

    def open(self, stream: Stream, frame: bytes) -> None:
        """Queue the OPEN of `stream`; raise TooManyStreams when too many bytes wait."""
        if self._open_bytes + len(frame) > self._limits.open_queue_bytes:
            raise errors.TooManyStreams("too many bytes wait in OPENs")
        stream.prefix = frame
        stream.is_held = True
        self._opens.append(stream)
        self._open_bytes += len(frame)

    def held(self) -> list[Stream]:
        """Return the streams whose OPEN has not left."""
        return [stream for stream in self._opens if stream.is_held]

    def forget_held(self, stream: Stream) -> None:
        """Drop an OPEN that has not left: the peer will never know of the stream.

        It stays in its place until the forgotten ones outnumber the others; all leave then, in O(1) each over all.
        """
        if stream.prefix is not None:
            self._open_bytes -= len(stream.prefix)
        stream.is_held = False
        self._forgotten += 1
        if self._forgotten * 2 > len(self._opens):
            self._forgotten = 0
            self._opens = self.held()

    def window(self, stream: Stream) -> None:
        """Credit of the stream is to be returned with the next message."""
        if not stream.window_pending:
            stream.window_pending = True
            self._windows.append(stream)

    def session_window(self) -> None:
        """Credit of the session is to be returned with the next message."""
        self._session_window_due = True

    def message(self, topic: int, body: bytes, *, droppable: bool) -> bool:
        """Queue a MSG; tell whether it found room. Droppable ones, oldest first, give way to what is not."""
        frame = HEADER.pack(_MSG, Flag.DROPPABLE if droppable else 0, len(body) + 1, 0) + bytes((topic,)) + body
        room = self._limits.message_queue_bytes - len(frame)
        while self._message_bytes > room and self._drop_message():
            pass
        if self._message_bytes > room:
            self.dropped_messages += droppable
            return False
        self._messages.append((int(droppable), frame))
        self._message_bytes += len(frame)
        return True

    def _drop_message(self) -> bool:
        for index, (droppable, frame) in enumerate(self._messages):
            if droppable:
                del self._messages[index]
                self._message_bytes -= len(frame)
                self.dropped_messages += 1
                return True
        return False

    def clear(self) -> None:
        """Drop everything: the session is over. Control frames queued from now on are the goodbye."""
        self._control.clear()
        self._control_bytes = 0
        self._windows.clear()
        self._session_window_due = False
        self._opens.clear()
        self._open_bytes = self._forgotten = 0
        self._messages.clear()
        self._message_bytes = 0
        self.scheduler.clear()
        self.queued = 0
        self._grant = _nothing  # the session's own method: they would hold each other for ever

    def take(self, now: float) -> bytes:
        """Return the next WebSocket message, empty when there is nothing to send.

        About 64 KiB at most (3 ms of a slow link), plus at most one OPEN or HEAD of 60 KiB that began below it.
        """
        scheduler = self.scheduler
        target, bulk = self.pacing.message_bytes, scheduler.bulk_bytes
        out: list[Buffer] = []
        size = self._take_control(out, target) if self._control else 0
        if self._windows or self._session_window_due:
            size += self._take_windows(out, now)
        if self._opens:
            size += self._take_opens(out, target - size, now)
        data = self._take_streams(out, target - size, now) if scheduler else 0
        size += data
        if self._messages and size < target:
            size += self._take_messages(out, target - size)
        if size:
            moved, is_backlogged = scheduler.bulk_bytes - bulk, scheduler.has_bulk
            self.pacing.sent(size, moved, now, is_backlogged=is_backlogged)
            if (
                (moved or is_backlogged or (data and self.pacing.is_looking))
                and not self._control
                and self.pacing.is_mark_due(now)
            ):
                self._mark(out, now)
            elif not (moved or is_backlogged or self._control) and self.pacing.is_ping_due(now):
                self.pacing.pinged(self._append_ping(out, now)[0])
        return out[0] if len(out) == 1 and type(out[0]) is bytes else b"".join(out)

    def _mark(self, out: list[Buffer], now: float) -> None:
        """End the message with a PING, whose answer shows that all before it has arrived."""
        nonce, size = self._append_ping(out, now)
        self.pacing.mark(nonce, size, now)

    def _append_ping(self, out: list[Buffer], now: float) -> tuple[bytes, int]:
        """Nonce, and bytes of the frame."""
        nonce = self._ping(now)
        frame = HEADER.pack(_PING, 0, len(nonce), 0) + nonce
        out.append(frame)
        return nonce, len(frame)

    def _take_control(self, out: list[Buffer], target: int) -> int:
        size = count = 0
        for frame in self._control:
            if size >= target:
                break
            out.append(frame)
            size += len(frame)
            count += 1
        del self._control[:count]
        self._control_bytes -= size
        return size

    def _take_windows(self, out: list[Buffer], now: float) -> int:
        before = len(out)
        if self._session_window_due:
            self._session_window_due = False
            out.append(HEADER.pack(_WINDOW, 0, 4, 0) + U32.pack(self._credit.take_increment()))
        windows, self._windows = self._windows, []
        for stream in windows:
            stream.window_pending = False
            increment = self._grant(stream, now)
            if increment > 0:
                out.append(HEADER.pack(_WINDOW, 0, 4, stream.id) + U32.pack(increment))
        return 12 * (len(out) - before)

    def _take_opens(self, out: list[Buffer], room: int, now: float) -> int:
        size = 0
        opens = self._opens
        while opens and self.backlog_room > 0 and size < room:
            stream = opens.pop(0)
            if not stream.is_held or stream.prefix is None:
                self._forgotten -= 1
                continue
            frame, stream.prefix = stream.prefix, None
            stream.is_held = False
            stream.sent_at = now
            out.append(frame)
            size += len(frame)
            self._open_bytes -= len(frame)
            self.backlog_room -= 1
            if stream.is_ready():
                self.scheduler.add(stream, now)
        while opens and not opens[0].is_held:
            opens.pop(0)
            self._forgotten -= 1
        return size

    def _take_streams(self, out: list[Buffer], room: int, now: float) -> int:
        size = 0
        credit = self._credit
        largest = min(self._data_bytes, self.pacing.message_bytes)
        may_bulk = not self.pacing.is_blocked
        low = self._limits.send_queue_low_bytes
        while size < room and credit.send_left > 0:
            before = len(out)
            served = self.scheduler.serve(out, min(largest, credit.send_left), now, may_bulk=may_bulk)
            if served is None:
                break
            stream, moved = served
            credit.send_left -= moved
            self.queued -= moved
            self.sent_bytes[stream.cls] += moved
            for at in range(before, len(out)):
                size += len(out[at])
            if stream.own_half >= _ENDED or (stream.waits_writable and stream.queued < low):
                self.finished.append(stream)
        return size

    def _take_messages(self, out: list[Buffer], room: int) -> int:
        size = 0
        while self._messages and size < room:
            frame = self._messages.pop(0)[1]
            out.append(frame)
            size += len(frame)
        self._message_bytes -= size
        return size
