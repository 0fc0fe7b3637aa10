"""The receiving side of a session: what each frame of the peer does.

A ProtocolError raised here ends the session; what concerns one stream resets that stream and is counted. Bytes of DATA
are handed on as views into the received message and never copied.
"""

from collections.abc import Callable
from typing import Final

from proto import codec, errors, events, frames, headers, messages
from proto import limits as bounds
from proto.core import Role, SessionCore
from proto.errors import Code
from proto.frames import HEADER, U32, Flag, FrameType
from proto.messages import StreamClass, StreamKind
from proto.stream import Stream
from proto.transitions import INPUT_BITS, NEXT_HALF, HalfInput, HalfState, SessionInput
from proto.window import CREDIT_MAX

_DATA: Final = int(FrameType.DATA)
_FIN: Final = int(Flag.FIN)
_DATA_INPUT: Final = int(HalfInput.DATA)
_ENDED: Final = int(HalfState.ENDED)
_AWAITED: Final = int(HalfState.AWAITED)
_FLOWING: Final = int(HalfState.FLOWING)
_COMMAND: Final = StreamKind.CMD
_LAST_KIND: Final = int(StreamKind.SUB)
_LAST_CLASS: Final = int(StreamClass.BULK)
_UPGRADES: Final = frozenset({"", "websocket", "SPDY/3.1"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_FLAGS: Final = tuple(int(frames.ALLOWED_FLAGS.get(FrameType(kind), 0)) if kind else 0 for kind in range(16))
_ON_SESSION: Final = tuple(kind in frames.SESSION_TYPES for kind in range(16))
_KINDS: Final = tuple(StreamKind)
_CLASSES: Final = tuple(StreamClass)
_OPENINGS: Final = tuple(messages.OPENING_OF_KIND[kind] for kind in StreamKind)
_unpack: Final = HEADER.unpack_from
_SYNC_IDS_MAX: Final = 2 * 8192


class Inbound(SessionCore):
    """Handlers of the peer's frames."""

    __slots__ = ()

    def _receive_frames(self, message: bytes, now: float) -> None:
        """Handle every frame of one message; stop where the session ends. Raise ProtocolError for the whole session."""
        end = len(message)
        if not 0 < end <= bounds.MESSAGE_MAX_BYTES:
            raise errors.ProtocolError(f"message of {end} bytes", Code.TOO_BIG)
        view = memoryview(message)
        streams = self.table.streams
        position = 0
        while position < end:
            if end - position < 8:
                raise errors.ProtocolError("truncated frame header")
            kind, flags, length, stream_id = _unpack(message, position)
            start = position + 8
            position = start + length
            if position > end:
                raise errors.ProtocolError("frame longer than its message")
            if kind == _DATA:
                self._data(streams.get(stream_id), stream_id, flags, view[start:position], now)
            else:
                self._dispatch(kind, flags, stream_id, message[start:position], now)
                if not self.is_open:
                    return

    def _data(self, stream: Stream | None, stream_id: int, flags: int, data: memoryview, now: float) -> None:
        size = len(data)
        if flags & ~_FIN or size > self.data_max:
            raise errors.ProtocolError("DATA with unknown flags or above the agreed size")
        credit = self.credit
        credit.receive_left -= size
        if credit.receive_left < 0:
            raise errors.ProtocolError("DATA beyond the session's credit", Code.FLOW_CONTROL)
        credit.unreturned += size
        if credit.unreturned * 2 >= credit.window:
            self.out.session_window()
        if stream is None:
            if stream_id == 0:
                raise errors.ProtocolError("DATA on stream 0")
            self._unknown(stream_id, now)
            return
        after = NEXT_HALF[stream.peer_half << INPUT_BITS | _DATA_INPUT + flags]
        if after < 0 or (not size and not flags):
            if stream.is_held:
                self._unknown(stream_id, now)
            else:
                self._fail_stream(stream, Code.PROTOCOL, "DATA out of order", now)
            return
        if size:
            stream.receive_left -= size
            if stream.receive_left < 0:
                self._fail_stream(stream, Code.FLOW_CONTROL, "DATA beyond the stream's credit", now)
                return
            stream.buffered += size
            stream.data_at = now
            self.received_bytes[stream.cls] += size
            if self.budget is not None:
                self.budget.used += size
        stream.peer_half = after
        self._events.append(events.DataReceived(stream, data, flags == _FIN))
        if flags:
            self._close_half_done(stream)

    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if kind >= frames.EXTENSION_MIN:
            return
        handler = _HANDLERS.get(kind)
        if handler is None or flags & ~_FLAGS[kind]:
            raise errors.ProtocolError(f"frame type {kind:#x} with flags {flags:#x} in an open session")
        if (stream_id == 0) != _ON_SESSION[kind] and kind != FrameType.WINDOW:
            raise errors.ProtocolError(f"frame type {kind:#x} on stream {stream_id}")
        handler(self, stream_id, flags, payload, now)

    # Opening

    def _open(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        self.table.check_peer_id(stream_id)
        if len(payload) < frames.OPEN_PREFIX.size:
            raise errors.ProtocolError("short OPEN")
        cls, kind, window = frames.OPEN_PREFIX.unpack_from(payload)
        if cls > _LAST_CLASS or window > CREDIT_MAX:
            raise errors.ProtocolError("OPEN with an unknown class or too much credit")
        if self._final_id is not None and stream_id > self._final_id:
            self.table.swallow(stream_id, now)  # crossed our GOAWAY, which told the peer that it was not taken
            return
        if (reason := self._refusal(now)) is not None or kind > _LAST_KIND:
            self._refuse(reason or "kind")
            self._send_reset(stream_id, Code.REFUSED, reason or "unknown kind of stream")
            self.table.swallow(stream_id, now)
            if reason == "streams":
                self._violate("more streams than agreed", now)
            return
        message = codec.decode(_OPENINGS[kind], payload[frames.OPEN_PREFIX.size :])
        self._take(stream_id, _KINDS[kind], _CLASSES[cls], window, message, bool(flags), now)

    def _refusal(self, now: float) -> str | None:
        if not self.table.has_room_for_peer(self.backlog):
            return "streams"
        bucket = self._reset_bucket
        if bucket.level < 1.0 and bucket.is_empty(now):
            # Cutting thousands of streams at once is legitimate; going on to open some while refused is not. Only the
            # hub ends a session for it: what reaches an agent so is the impatience of any user.
            if self.role is Role.HUB and not bucket.take(now) and bucket.level <= -bucket.burst:
                raise errors.ProtocolError("flood of streams opened and reset", Code.OVERLOADED)
            return "resets"
        return None

    def _take(
        self,
        stream_id: int,
        kind: StreamKind,
        cls: StreamClass,
        window: int,
        message: messages.Opening,
        end: bool,
        now: float,
    ) -> None:
        stream = Stream(stream_id, kind, cls, is_ours=False, window=self.window, send_left=window, now=now)
        stream.own_half = _AWAITED
        stream.peer_half = _ENDED if end else _FLOWING
        self.table.add_theirs(stream)
        if kind is not _COMMAND:
            self.liveness.active(now)
        if isinstance(message, messages.HttpRequest):
            stream.is_safe = message.method in _SAFE_METHODS
            stream.is_upgrade = bool(message.upgrade)
            fault = headers.fault(message.headers)
            if fault is None and message.upgrade not in _UPGRADES:
                fault = "unknown upgrade"
            if fault is not None:
                self._reset(stream, Code.PROTOCOL, fault, now, tell=False)
                self._violate(fault, now)
                return
        self._events.append(events.StreamOpened(stream, message, end))

    # Answering

    def _answered_stream(self, stream_id: int, now: float) -> Stream | None:
        """Return the stream of ours that the peer answers, None when there is none and the peer was told."""
        stream = self.table.told(stream_id)
        if stream is None:
            self._unknown(stream_id, now)
            return None
        if not stream.is_ours:
            self._fail_stream(stream, Code.PROTOCOL, "answer from the opener", now)
            return None
        return stream

    def _accept(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if (stream := self._answered_stream(stream_id, now)) is None:
            return
        if len(payload) < U32.size:
            raise errors.ProtocolError("short ACCEPT")
        message = codec.decode(messages.Accepted, payload[U32.size :])
        what = HalfInput.ACCEPT if stream.has_head else HalfInput.ACCEPT_FLOW
        if not self._move(stream, what, now) or not self._credit_stream(stream, U32.unpack_from(payload)[0], now):
            return
        self._answered(stream)
        if stream.is_ready():
            self.out.scheduler.add(stream, now)
        self._events.append(events.StreamAccepted(stream, message))

    def _head(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if (stream := self._answered_stream(stream_id, now)) is None:
            return
        message = codec.decode(messages.HttpHead, payload)
        fault = self._head_fault(stream, flags, message)
        if fault is not None:
            self._fail_stream(stream, Code.PROTOCOL, fault, now)
            return
        if not self._move(stream, HalfInput.HEAD_END if flags else HalfInput.HEAD, now):
            return
        self._answered(stream)
        self._events.append(events.HeadReceived(stream, message, bool(flags)))
        if flags:
            self._close_half_done(stream)

    def _head_fault(self, stream: Stream, flags: int, message: messages.HttpHead) -> str | None:
        if not stream.has_head:
            return "HEAD on a stream that is not http"
        if stream.peer_half == _AWAITED and not stream.is_safe:
            return "HEAD without ACCEPT"
        if message.status < 200 and not (message.status == 101 and stream.is_upgrade and not flags):
            return "interim status, or 101 without an upgrade"
        return headers.fault(message.headers)

    def _trailers(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        stream = self.table.told(stream_id)
        if stream is None:
            self._unknown(stream_id, now)
            return
        message = codec.decode(messages.Trailers, payload)
        fault = headers.fault(message.headers) if stream.has_head else "TRAILERS on a stream that is not http"
        if fault is not None:
            self._fail_stream(stream, Code.PROTOCOL, fault, now)
        elif self._move(stream, HalfInput.TRAILERS, now):
            self._events.append(events.TrailersReceived(stream, message.headers))
            self._close_half_done(stream)

    def _answered(self, stream: Stream) -> None:
        if not stream.is_answered:
            self.table.answered(stream)
            self.out.backlog_room += 1

    def _move(self, stream: Stream, what: HalfInput, now: float) -> bool:
        """Move the peer's half; reset the stream and return False when the table has no such step."""
        after = NEXT_HALF[stream.peer_half << INPUT_BITS | what]
        if after < 0:
            self._fail_stream(stream, Code.PROTOCOL, f"{what.name} out of order", now)
            return False
        stream.peer_half = after
        return True

    # Credit and ends

    def _window(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if len(payload) != U32.size:
            raise errors.ProtocolError("WINDOW of a wrong length")
        increment = U32.unpack(payload)[0]
        if stream_id == 0:
            self.credit.send_left += increment
            if not increment or self.credit.send_left > CREDIT_MAX:
                raise errors.ProtocolError("WINDOW of 0 or beyond 2 GiB", Code.FLOW_CONTROL)
            return
        stream = self.table.told(stream_id)
        if stream is None:
            # Credit for a stream that has just ended is normal: it crossed our last frame.
            if not self.table.was_opened(stream_id):
                self._unknown(stream_id, now)
        elif not increment:
            self._fail_stream(stream, Code.PROTOCOL, "WINDOW of 0", now)
        elif self._credit_stream(stream, increment, now) and stream.is_ready():
            self.out.scheduler.add(stream, now)

    def _credit_stream(self, stream: Stream, increment: int, now: float) -> bool:
        if stream.send_left + increment > CREDIT_MAX:
            self._fail_stream(stream, Code.FLOW_CONTROL, "credit beyond 2 GiB", now)
            return False
        stream.send_left += increment
        return True

    def _peer_reset(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if not frames.RESET_PREFIX.size <= len(payload) <= frames.RESET_PREFIX.size + bounds.RESET_TEXT_MAX_BYTES:
            raise errors.ProtocolError("RESET of a wrong length")
        stream = self.table.told(stream_id)
        if stream is None:
            if not self.table.was_opened(stream_id):
                self._violate("RESET of a stream that was never opened", now)
            return
        code = errors.code_of(frames.RESET_PREFIX.unpack_from(payload)[0])
        text = payload[frames.RESET_PREFIX.size :].decode("utf-8", "replace")
        self._kill(stream, code, text)
        if not stream.is_ours:
            self._reset_bucket.spend(now)

    def _unknown(self, stream_id: int, now: float) -> None:
        """A frame for a stream that we do not have, as far as the peer can know: late ones are swallowed, others
        answered at a bounded rate. Where our OPEN is still to come nothing is said: a RESET before it is nonsense."""
        if self.table.is_swallowed(stream_id):
            return
        self._refuse("unknown_stream")
        if stream_id not in self.table.streams and self._unknown_bucket.take(now):
            self._send_reset(stream_id, Code.UNKNOWN_STREAM, "")
        if not self.table.was_opened(stream_id):
            self._violate("frame for a stream that was never opened", now)

    # The session itself

    def _ping(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if len(payload) != frames.PING_BYTES:
            raise errors.ProtocolError("PING of a wrong length")
        if not flags:
            if not self._ping_bucket.take(now):
                raise errors.ProtocolError("flood of pings", Code.OVERLOADED)
            self.out.control(frames.encode(FrameType.PING, Flag.ACK, 0, payload))
            return
        rtt = self.liveness.pong(payload, now)
        if rtt is None:
            self._violate("answer to a ping that was not sent", now)
            return
        self.out.pacing.answered(payload, rtt, now)
        self._events.append(events.PongReceived(rtt))
        if payload == self._drain_nonce:
            self._drain_nonce = None
            self._settle_drain()

    def _settle_drain(self) -> None:
        raise NotImplementedError

    def _peer_goaway(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if len(payload) < frames.GOAWAY_PREFIX.size:
            raise errors.ProtocolError("short GOAWAY")
        self._survey(now)
        last_id, number, drain_ms = frames.GOAWAY_PREFIX.unpack_from(payload)
        goodbye = codec.decode(messages.Goodbye, payload[frames.GOAWAY_PREFIX.size :])
        code, retry_s = errors.code_of(number), goodbye.retry_ms / 1000
        if last_id > (bounds.ANY_ID if self._peer_final_id is None else self._peer_final_id):
            raise errors.ProtocolError("GOAWAY raises its last id")
        if drain_ms == 0:
            reason = events.EndReason(events.EndKind.PEER, code, goodbye.text, retry_s)
            self._end(reason, last_id=last_id)
            return
        self._advance(SessionInput.DRAIN, ours=False)
        is_first = self._peer_final_id is None
        self._peer_final_id = last_id
        self._exclude(last_id)
        for stream in self.out.held():
            self._kill(stream, Code.DRAINING, "the peer is draining")
        if is_first:
            self._events.append(events.DrainReceived(code, goodbye.text, drain_ms / 1000, retry_s))

    def _msg(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        if not 1 <= len(payload) <= 1 + bounds.MSG_MAX_BYTES:
            raise errors.ProtocolError("MSG of a wrong length")
        self._events.append(events.MessageReceived(payload[0], payload[1:], bool(flags)))

    def _sync(self, stream_id: int, flags: int, payload: bytes, now: float) -> None:
        """Compare the peer's list of open streams with ours; reset what only one side has."""
        count, rest = divmod(len(payload), U32.size)
        if rest or not 1 <= count <= 1 + _SYNC_IDS_MAX:
            raise errors.ProtocolError("SYNC of a wrong length")
        self._survey(now)
        theirs = {each[0] for each in U32.iter_unpack(payload[U32.size :])}
        for each in theirs.difference(self.table.streams):
            self._sync_unknown(each, now)
        for stream in list(self.table.streams.values()):
            # A stream that the peer cannot have known of when it wrote the list is not missing from it.
            known = not stream.is_ours or stream.is_answered or stream.sent_at < self.liveness.answered_sent_at
            if stream.id not in theirs and known and not stream.is_held:
                self._kill(stream, Code.UNKNOWN_STREAM, "the peer does not know the stream")

    def _survey(self, now: float) -> None:
        """A frame that costs as much as we have streams: thousands in one message would stand our loop still."""
        if not self._survey_bucket.take(now):
            raise errors.ProtocolError("flood of SYNC or GOAWAY", Code.OVERLOADED)

    def _sync_unknown(self, stream_id: int, now: float) -> None:
        if not self.table.was_opened(stream_id):
            self._violate("SYNC names a stream that was never opened", now)
        elif not self.table.is_swallowed(stream_id) and self._unknown_bucket.take(now):
            self._send_reset(stream_id, Code.UNKNOWN_STREAM, "")


_HANDLERS: Final[dict[int, Callable[[Inbound, int, int, bytes, float], None]]] = {
    int(FrameType.OPEN): Inbound._open,
    int(FrameType.ACCEPT): Inbound._accept,
    int(FrameType.WINDOW): Inbound._window,
    int(FrameType.RESET): Inbound._peer_reset,
    int(FrameType.PING): Inbound._ping,
    int(FrameType.GOAWAY): Inbound._peer_goaway,
    int(FrameType.MSG): Inbound._msg,
    int(FrameType.SYNC): Inbound._sync,
    int(FrameType.TRAILERS): Inbound._trailers,
    int(FrameType.HEAD): Inbound._head,
}
"""Control frames of an open session. DATA has its own way, and those of the handshake are errors here."""
