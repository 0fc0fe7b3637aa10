"""A session: bytes of messages in, events out, bytes of messages out. No clock, no socket, no task.

    session.start(now)
    session.receive(message, now)      a message arrived
    session.handle_timer(now)          at `next_timer(now)` at the latest
    session.open_stream(…), send(…)    what the owner wants
    session.events()                   what happened, in order: take it after each of the above
    session.outbox(now)                the next message to write, while `has_output`

Every time is a float of one monotonic clock, in seconds. After any call but `receive_eof`, `events`
and `written` the outbox may be non-empty. Only `proto.aio.link` drives one.
"""

from collections.abc import Iterable
from typing import Final

from proto import codec, errors, events, frames, headers, messages
from proto import limits as bounds
from proto.core import Role, SessionCore
from proto.errors import Code
from proto.events import EndKind, EndReason
from proto.frames import HEADER, U32, FrameType
from proto.inbound import Inbound
from proto.messages import StreamClass, StreamKind
from proto.pieces import Buffer
from proto.stream import Stream
from proto.transitions import HalfInput, HalfState, SessionInput, advance_half
from proto.window import CREDIT_MAX

__all__ = ["Role", "Session", "SessionCore"]

_ENDED: Final = int(HalfState.ENDED)
_AWAITED: Final = int(HalfState.AWAITED)
_FLOWING: Final = int(HalfState.FLOWING)
_COMMAND: Final = StreamKind.CMD
_OPEN: Final = int(FrameType.OPEN)
_HEAD: Final = int(FrameType.HEAD)
_NO_CREDIT: Final = U32.pack(0)
"""An ACCEPT of ours adds no credit: the start window of the handshake is what an opener gets."""
_SYNC_IDS_MOST: Final = 65_535 // 4 - 1
_SWEEP_S: Final = 10.0
"""How often half-closed streams are looked at: each look costs time in proportion to their number."""
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


class Session(Inbound):
    """One session, from WELCOME to its end. Raises UsageError for steps that its own side may not take."""

    __slots__ = ()

    # Driving

    def start(self, now: float) -> None:
        """Begin at `now`, with a first ping so that the round trip is known early."""
        if not self.is_open:
            return
        self.liveness.start(now)
        self._synced_at = now
        self._ping_now(now)

    def receive(self, message: bytes, now: float) -> None:
        """Handle one message of the peer. Never raises: what the peer does wrong ends the session or a stream."""
        if not self.is_open:
            return
        if not self.liveness.beat(now):
            self._stalled()
            return
        self.liveness.heard(len(message), now)
        try:
            self._receive_frames(message, now)
        except errors.ProtocolError as exc:
            self._fail(exc)
        if self.out.control_overflow:
            self._overflow()

    def receive_eof(self, text: str = "the transport ended") -> None:
        """The transport is gone."""
        self._end(EndReason(EndKind.TRANSPORT, Code.SESSION_LOST, text))

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def events(self) -> list[events.Event]:
        """Return what happened since the last call, oldest first."""
        taken, self._events = self._events, []
        return taken

    @property
    def has_output(self) -> bool:
        """Tell whether `outbox` would return a message."""
        return bool(self.out)

    def outbox(self, now: float) -> bytes:
        """Return the next message to write, empty when there is none; `written` follows when the transport took it.

        May produce events: streams that ended with it, queues that have room again.
        """
        message = self.out.take(now)
        if message:
            self._waiting_since = now
        if self.out.finished:
            self._finish()
        return message

    def written(self) -> None:
        """The transport took the last message."""
        self._waiting_since = None

    def _finish(self) -> None:
        finished, self.out.finished = self.out.finished, []
        for stream in finished:
            if stream.waits_writable and stream.own_half < _ENDED:
                stream.waits_writable = False
                self._events.append(events.Writable(stream))
            else:
                self._close_half_done(stream)

    # Time

    def next_timer(self, now: float) -> float:
        """Return when `handle_timer` is due: within a second, so that intents never move it forward."""
        due = self.liveness.next_at(has_streams=bool(self.table.streams), now=now)
        return due if self._close_at is None else min(due, self._close_at)

    def handle_timer(self, now: float) -> None:
        """Do what is due: pings, verdicts on a dead peer or transport, drain deadline, SYNC, expiry."""
        if not self.is_open:
            return
        if not self.liveness.beat(now):
            self._stalled()
        elif self.liveness.is_dead(now, has_streams=bool(self.table.streams)):
            self._end(EndReason(EndKind.TIMEOUT, Code.SESSION_LOST, self.liveness.last_words(now)))
        elif self._waiting_since is not None and now - self._waiting_since >= self.limits.progress_s:
            self._end(EndReason(EndKind.TIMEOUT, Code.SESSION_LOST, "the transport takes no bytes"))
        elif self.out.control_overflow:
            self._overflow()
        elif self._close_at is not None and now >= self._close_at:
            self.close(Code.DRAINING, "drain deadline")
        else:
            self._housekeeping(now)

    def _housekeeping(self, now: float) -> None:
        has_streams = bool(self.table.streams)
        if self.liveness.is_ping_due(has_streams=has_streams, now=now):
            self._ping_now(now)
        if has_streams and now - self._synced_at >= self.limits.sync_s:
            self._send_sync(now)
        self.table.expire(now)
        if self._growth.extra:
            self._shrink_windows(now)
        if self._promised:
            self._forget_promises(now)
        if has_streams and now - self._swept_at >= _SWEEP_S:
            self._swept_at = now
            self._reset_idle_halves(now)
        if self.budget is not None and self.budget.is_pressed:
            self._relieve(now)

    def _shrink_windows(self, now: float) -> None:
        for stream in self.table.streams.values():
            is_idle = now - stream.data_at >= self.limits.window_idle_s
            if stream.window > self.window and is_idle and not self._is_owed_wide(stream):
                self._growth.release(stream.window)
                stream.window = self.window

    def _forget_promises(self, now: float) -> None:
        limit = now - self.limits.window_idle_s
        for stream in [each for each in self._promised if each.data_at <= limit and not each.buffered]:
            if not self._is_owed_wide(stream):
                self._promise(stream, 0)

    def _is_owed_wide(self, stream: Stream) -> bool:
        """It began wide and has all of that credit: so much may still come."""
        return stream.is_ours and self.window < stream.opening_credit == stream.receive_left

    def _reset_idle_halves(self, now: float) -> None:
        """Half-closed raw connections have no other end: nobody may ever write or close them again."""
        limit = self.limits.half_closed_idle_s
        idle = [
            stream
            for stream in self.table.streams.values()
            if stream.kind == StreamKind.TCP
            and (stream.own_half >= _ENDED or stream.peer_half >= _ENDED)
            and now - max(stream.data_at, stream.served_at) >= limit
        ]
        for stream in idle:
            self._reset(stream, Code.IDLE, "half-closed and idle", now)

    def _relieve(self, now: float) -> None:
        """The process is short of buffers: reset our largest streams that nobody has read from since the last look."""
        assert self.budget is not None
        stalled = []
        for stream in self.table.streams.values():
            if not stream.is_moving and stream.buffered * 2 >= min(self.window, stream.window):
                stalled.append(stream)
            stream.is_moving = False
        for stream in sorted(stalled, key=lambda each: each.buffered, reverse=True):
            if not self.budget.is_pressed:
                return
            text = "slow reader cut, the buffer budget is used up"
            self._refuse("slow_reader")
            self._reset(stream, Code.OVERLOADED, text, now)

    def _send_sync(self, now: float) -> None:
        self._synced_at = now
        known = [stream.id for stream in self.table.streams.values() if not stream.is_held]
        if len(known) > _SYNC_IDS_MOST:
            return  # it would not fit into a frame, and half a list would end the other half
        payload = b"".join(map(U32.pack, [0, *known]))
        self.out.control(frames.encode(FrameType.SYNC, 0, 0, payload))

    def _ping_now(self, now: float) -> bytes:
        nonce = self.liveness.ping(now)
        self.out.control(frames.encode(FrameType.PING, 0, 0, nonce))
        return nonce

    def _stalled(self) -> None:
        self._end(EndReason(EndKind.STALLED, Code.SESSION_LOST, "our event loop stood still"))

    def _overflow(self) -> None:
        self._end(EndReason(EndKind.TIMEOUT, Code.SESSION_LOST, "the peer does not read its control frames"))

    # Streams: what the owner wants

    def open_stream(
        self,
        message: messages.Opening,
        *,
        kind: StreamKind,
        cls: StreamClass,
        end: bool = False,
        window: int = CREDIT_MAX,
        is_long: bool = False,
        now: float,
    ) -> Stream:
        """Open a stream. Raise SessionLost, SessionDraining, TooManyStreams, MessageTooBig: nothing was sent.

        The OPEN leaves in turn, and waits while the peer has `backlog` unanswered ones. `window`: the most credit for
        the answer at first, bytes; `is_long`: it may be a long answer, which over a long way gets more than usual.
        """
        if not self.is_open:
            raise errors.SessionLost("the session has ended")
        if self._peer_final_id is not None:
            raise errors.SessionDraining("the peer is draining")
        if self.table.is_near_end and not self.drain_announced:
            self.drain(self.limits.drain_s, Code.DRAINING, "stream ids are used up", now=now)
        stream_id = self.table.reserve()
        meta = codec.encode(message)
        window = self._start_window(message, window, is_long=is_long)
        stream = Stream(stream_id, kind, cls, is_ours=True, window=window, send_left=self.window, now=now)
        stream.own_half = _ENDED if end else _FLOWING
        stream.peer_half = _AWAITED
        if isinstance(message, messages.HttpRequest):
            stream.is_safe = message.method in _SAFE_METHODS
            stream.is_upgrade = bool(message.upgrade)
        frame = frames.OPEN_FRAME.pack(_OPEN, end, len(meta) + 6, stream_id, cls, kind, window) + meta
        try:
            self.out.open(stream, frame)
        except errors.TooManyStreams:
            self._growth.release(window)
            raise
        self.table.add_ours(stream)
        if window > self.window:
            self._promise(stream, window)
        if kind is not _COMMAND:  # a token every few minutes does not keep a tunnel awake
            self.liveness.active(now)
            if self.liveness.is_ping_due(has_streams=True, now=now):
                self._ping_now(now)
        return stream

    def accept(self, stream: Stream, message: messages.Accepted) -> None:
        """Take a stream of the peer. Nothing for one that is dead or was answered."""
        if stream.is_reset:
            return
        self._need_theirs(stream)
        if stream.is_answered:
            return
        what = HalfInput.ACCEPT if stream.has_head else HalfInput.ACCEPT_FLOW
        stream.own_half = advance_half(stream.own_half, what, ours=True)
        self.table.answered(stream)
        payload = _NO_CREDIT + codec.encode(message)
        self.out.control(HEADER.pack(FrameType.ACCEPT, 0, len(payload), stream.id) + payload)

    def send_head(self, stream: Stream, message: messages.HttpHead, *, end: bool = False, now: float) -> None:
        """Send the response head; ACCEPT goes before it where the request needs one. Nothing for a dead stream.

        Raise MessageTooBig, or UsageError for a head that the peer would have to refuse: nothing was sent.
        """
        if stream.is_reset:
            return
        self._need_theirs(stream)
        fault = self._head_fault_ours(stream, message, end=end)
        if fault is not None:
            raise errors.UsageError(fault)
        payload = codec.encode(message)
        if stream.own_half == _AWAITED and not stream.is_safe:
            self.accept(stream, messages.Accepted())
        advance_half(stream.own_half, HalfInput.HEAD_END if end else HalfInput.HEAD, ours=True)
        stream.own_half = _FLOWING  # ENDED once it is written
        self.table.answered(stream)
        stream.prefix = HEADER.pack(_HEAD, end, len(payload), stream.id) + payload
        stream.prefix_ends = stream.end_queued = end
        self.out.scheduler.add(stream, now)

    def _head_fault_ours(self, stream: Stream, message: messages.HttpHead, *, end: bool) -> str | None:
        if message.status < 200 and not (message.status == 101 and stream.is_upgrade and not end):
            return "interim status, or 101 without an upgrade"
        return _fields_fault(message.headers)

    def _need_theirs(self, stream: Stream) -> None:
        if stream.is_ours:
            raise errors.UsageError("the opener does not answer its own stream")

    def send(self, stream: Stream, data: Buffer, *, end: bool = False, now: float) -> bool:
        """Queue bytes of our half, without copying them. Return False when the queue is full: pause until Writable.

        Nothing for a dead stream. Raise UsageError before HEAD or ACCEPT, or after the end.
        """
        if stream.own_half != _FLOWING or stream.end_queued:
            if stream.is_closed:
                return True
            raise errors.UsageError(f"DATA in half state {HalfState(stream.own_half).name}, or after its end")
        size = len(data)
        if size:
            stream.push(data)
            self.out.queued += size
        elif not end:
            return True
        stream.end_queued = end
        if not stream.in_ring and stream.is_ready():
            self.out.scheduler.add(stream, now)
        if stream.queued < self.limits.send_queue_bytes:
            return True
        stream.waits_writable = True
        return False

    def send_trailers(self, stream: Stream, fields: messages.Headers, *, now: float) -> None:
        """End our half with trailers, after everything queued. Nothing for a dead stream."""
        if stream.is_reset:
            return
        fault = _fields_fault(fields) if stream.has_head else "TRAILERS on a stream that is not http"
        if fault is not None:
            raise errors.UsageError(fault)
        if stream.end_queued:
            raise errors.UsageError("TRAILERS after the end")
        advance_half(stream.own_half, HalfInput.TRAILERS, ours=True)
        payload = codec.encode(messages.Trailers(headers=fields))
        stream.suffix = HEADER.pack(FrameType.TRAILERS, 0, len(payload), stream.id) + payload
        stream.end_queued = True
        if stream.is_ready():
            self.out.scheduler.add(stream, now)

    def reset_stream(self, stream: Stream, code: Code, text: str = "", *, now: float) -> None:
        """Break the stream off: queued bytes are dropped and RESET leaves with the next message. Nothing when dead."""
        stream.is_muted = True  # also when it has just ended: its last events may still be on their way to the owner
        if stream.is_closed or stream.id not in self.table.streams:
            return
        if self.role is Role.HUB and not stream.is_ours:
            self._reset_bucket.spend(now)  # a flood of OPENs that we refuse one by one is a flood all the same
        if code is Code.SESSION_LOST:
            code = Code.INTERNAL
        self._reset(stream, code, text, now, tell=False)

    def lose(self, stream_ids: Iterable[int], text: str, *, now: float) -> None:
        """Streams of ours that the peer took and cannot carry on (hub.workers.hop): their owners hear what the end of a
        session means, SESSION_LOST, which no RESET can say."""
        for stream_id in stream_ids:
            stream = self.table.told(stream_id)
            if stream is not None and stream.is_ours:
                self._send_reset(stream_id, Code.CANCELLED, "")
                self.table.swallow(stream_id, now)
                self._kill(stream, Code.SESSION_LOST, text)

    def consumed(self, stream: Stream, size: int) -> None:
        """`size` received bytes have left for the local consumer: their credit returns. Never more than buffered."""
        size = min(size, stream.buffered)
        if size <= 0:
            return
        stream.buffered -= size
        stream.is_moving = True
        self.consumed_bytes += size
        if self.budget is not None:
            self.budget.used -= size
        if stream.peer_half < _ENDED and (stream.window - stream.receive_left - stream.buffered) * 2 >= stream.window:
            self.out.window(stream)

    def send_message(self, topic: int, body: bytes, *, droppable: bool) -> bool:
        """Queue a one-shot message; tell whether it found room. Raise UsageError above 16 KiB."""
        if not 0 <= topic <= 255 or len(body) > bounds.MSG_MAX_BYTES:
            raise errors.UsageError("a topic is one byte, a body at most 16 KiB")
        return self.is_open and self.out.message(topic, body, droppable=droppable)

    # The end

    def ping(self, now: float) -> None:
        """Send a PING now, unless one is unanswered."""
        if self.is_open and self.liveness.unanswered_ping_at is None:
            self._ping_now(now)

    def drain(self, deadline_s: float, code: Code, text: str, *, now: float, retry_s: float = 0.0) -> None:
        """Announce that we take no new streams; after `deadline_s` the session ends. Once.

        What the peer opened before it saw the announcement is still taken: the answer to a ping behind it shows when
        that is, and a second GOAWAY then fixes the last id.
        """
        if not self.is_open or self.drain_announced:
            return
        self._advance(SessionInput.DRAIN, ours=True)
        self.drain_announced = True
        self._close_at = now + deadline_s
        self._drain_goodbye = (code, messages.Goodbye(text=text[:1024], retry_ms=int(retry_s * 1000)))
        self._goaway(bounds.ANY_ID, code, max(deadline_s, 0.001), self._drain_goodbye[1])
        self._drain_nonce = self._ping_now(now)

    def _settle_drain(self) -> None:
        code, goodbye = self._drain_goodbye
        self._final_id = self.table.last_peer_id
        self._goaway(self._final_id, code, 0.001, goodbye)

    def close(self, code: Code, text: str = "", *, retry_s: float = 0.0) -> None:
        """End the session now, with a GOAWAY that says what was taken."""
        self._end(EndReason(EndKind.LOCAL, code, text, retry_s), last_id=bounds.ANY_ID, goodbye=True)


def _fields_fault(fields: messages.Headers) -> str | None:
    """What the peer would refuse, and end the session for, since its decoder knows no stream yet."""
    if len(fields) > messages.HEADERS_MAX:
        return f"more than {messages.HEADERS_MAX} header fields"
    return headers.fault(fields)
