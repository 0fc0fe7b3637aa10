"""What the receiving and the sending half of a session share: its state, its streams, and how both end.

`proto.session` is the public class; `proto.inbound` handles frames of the peer. Nothing outside `proto` uses this
module.
"""

import enum
import logging
from typing import Final

from proto import codec, errors, events, frames, messages, transitions
from proto import limits as bounds
from proto.errors import Code
from proto.events import EndKind, EndReason
from proto.frames import HEADER, FrameType
from proto.handshake import Negotiated
from proto.liveness import Liveness
from proto.outbox import Outbox
from proto.pacing import Pacing
from proto.stream import Stream
from proto.table import StreamTable
from proto.transitions import HalfInput, HalfState, SessionInput, SessionState
from proto.window import CREDIT_MAX, SHARED, Bucket, Budget, Growth, Movers, SessionCredit

logger = logging.getLogger(__name__)

_RESET: Final = int(HalfState.RESET)
_ENDED: Final = int(HalfState.ENDED)
_CLOSED: Final = SessionState.CLOSED


class Role(enum.Enum):
    """Which side of the transport we are: decides the parity of stream ids, and whether a flood of resets is fatal."""

    HUB = "hub"
    AGENT = "agent"


class SessionCore:
    """State of a session and the steps that both directions need."""

    __slots__ = (
        "_close_at",
        "_drain_goodbye",
        "_drain_nonce",
        "_events",
        "_final_id",
        "_growth",
        "_movers",
        "_peer_final_id",
        "_ping_bucket",
        "_promised",
        "_reset_bucket",
        "_state",
        "_survey_bucket",
        "_swept_at",
        "_synced_at",
        "_unknown_bucket",
        "_violations",
        "_waiting_since",
        "backlog",
        "budget",
        "compresses",
        "consumed_bytes",
        "credit",
        "data_max",
        "drain_announced",
        "end_reason",
        "limits",
        "liveness",
        "out",
        "received_bytes",
        "refusals",
        "role",
        "table",
        "window",
    )

    def __init__(
        self,
        role: Role,
        negotiated: Negotiated,
        limits: bounds.Limits | None = None,
        *,
        budget: Budget | None = None,
        last_stream_id: int = bounds.LAST_STREAM_ID,
    ) -> None:
        self.role = role
        self.limits = limits = limits or bounds.Limits()
        agreed = negotiated.limits
        self.data_max = agreed.data
        self.budget = budget
        self.window = agreed.window
        self.backlog = agreed.backlog
        self.compresses = negotiated.compresses
        """Bodies of answers may be compressed; who sends and reads them does so, the core does not look into DATA."""
        self.credit = SessionCredit(agreed.session_window)
        self._growth = Growth(limits, agreed.window, agreed.session_window, budget)
        self._movers = Movers()
        self._promised: dict[Stream, None] = {}
        """Streams whose windows count in the budget."""
        self.liveness = Liveness(limits, is_listening=role is Role.AGENT)
        self.out = Outbox(
            limits,
            min(agreed.data, limits.data_bytes),
            agreed.backlog,
            self.credit,
            self._grant,
            Pacing(negotiated.pings_per_s),
            self.liveness.ping,
        )
        self.table = StreamTable(limits, agreed.streams, is_even=role is Role.HUB, last_id=last_stream_id)
        self.consumed_bytes = 0
        """DATA of all streams that has left for its consumers."""
        self.received_bytes = [0, 0, 0]
        """DATA bytes received, by class."""
        self.refusals: dict[str, int] = {}
        """What was refused to the peer, by reason; the driver reads and clears it for its metrics."""
        self.end_reason: EndReason | None = None
        self._state = SessionState.OPEN
        self._events: list[events.Event] = []
        self._violations = Bucket(limits.violations, limits.violations / limits.violation_window_s)
        self._unknown_bucket = Bucket(limits.unknown_burst, limits.unknown_per_s)
        self._reset_bucket = Bucket(limits.reset_burst, limits.reset_per_s)
        self._survey_bucket = Bucket(limits.survey_burst, limits.survey_per_s)
        self._ping_bucket = Bucket(limits.ping_burst, limits.ping_per_s)
        self._synced_at = self._swept_at = 0.0
        self._waiting_since: float | None = None
        self.drain_announced = False
        """We sent the first GOAWAY."""
        self._drain_goodbye: tuple[Code, messages.Goodbye] = (Code.DRAINING, messages.Goodbye())
        self._drain_nonce: bytes | None = None
        """The ping whose answer shows that the peer has seen it."""
        self._close_at: float | None = None
        self._final_id: int | None = None
        """Last id of our final GOAWAY."""
        self._peer_final_id: int | None = None
        """Last id of the peer's final GOAWAY; ANY_ID once it has only announced one."""

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def is_open(self) -> bool:
        """Not over. A draining session is open."""
        return self._state is not _CLOSED

    @property
    def may_open(self) -> bool:
        """Open, and the peer has not said that it takes no new streams."""
        return self.is_open and self._peer_final_id is None

    @property
    def is_draining(self) -> bool:
        """Either side has announced a drain."""
        return self._state == SessionState.DRAINING

    @property
    def is_drained(self) -> bool:
        """A drain was announced, its last id is settled, and no stream is left."""
        settled = self._final_id is not None or self._peer_final_id not in {None, bounds.ANY_ID}
        return settled and not self.table.streams

    def _advance(self, what: SessionInput, *, ours: bool) -> None:
        before = self._state
        self._state = transitions.advance_session(before, what, ours=ours)
        if before is not self._state:
            logger.debug("session state", extra={"before": before.name, "after": self._state.name})

    def _refuse(self, reason: str) -> None:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    # Streams

    def _start_window(self, opening: messages.Opening, most: int, *, is_long: bool) -> int:
        """Return the credit for the answer on a fresh stream. Of an upgrade the first frames must fit in whole."""
        if isinstance(opening, messages.HttpRequest) and opening.upgrade:
            return min(self.window, most)
        if self.budget is not None and self.budget.is_crowded:
            return min(self.window, self.limits.crowded_window_bytes, most)
        if self.is_near:
            return min(self.window, self.limits.near_window_bytes, most)
        return self._growth.first_size(most, self.liveness.best_rtt_s) if is_long else min(self.window, most)

    @property
    def is_near(self) -> bool:
        """Whether hub and agent are in one place, by the shortest round trip: recent ones may have waited behind bulk.
        Not where they are as long as on a long way, since it may have become one."""
        liveness, limits = self.liveness, self.limits
        recent, shortest = liveness.best_rtt_s, liveness.shortest_rtt_s
        return shortest is not None and shortest < limits.near_rtt_s and (recent or 0.0) < limits.far_rtt_s

    def _grant(self, stream: Stream, now: float) -> int:
        """Return the credit to give back for a stream, after its window grew if it was used up fast. May be 0."""
        if stream.peer_half >= _ENDED:
            return 0
        began = stream.opening_credit if stream.is_ours else self.window
        # Never less than it began with: a sender may hold on to its blocks until half of that is free (§5.3).
        most = max(self._near_most(stream), began) if self.is_near else CREDIT_MAX
        elapsed = now - stream.granted_at
        stream.window = self._growth.next_size(stream.window, elapsed, self.liveness.best_rtt_s, most)
        # What it has grown since has bounds of its own, and slow readers do not grow.
        self._promise(stream, min(stream.window, max(self.window, began)))
        increment = stream.window - stream.receive_left - stream.buffered
        if increment <= 0:
            return 0
        stream.receive_left += increment
        stream.granted_at = now
        return increment

    def _near_most(self, stream: Stream) -> int:
        """The largest window where hub and agent are in one place, by how many streams move much."""
        movers, least = self._movers, self.limits.near_window_bytes
        stream.moved_in = movers.note(stream.moved_in, self.consumed_bytes)
        if movers.lately == 1:
            return self.limits.near_alone_bytes
        return min(max(least * SHARED // (movers.lately or SHARED), least), self.limits.near_alone_bytes)

    def _promise(self, stream: Stream, size: int) -> None:
        """Count `size` bytes of its window as promised; none for one that does not move any more."""
        if self.budget is None:
            return
        self.budget.promised += size - stream.promised
        stream.promised = size
        if size:
            self._promised[stream] = None
        else:
            self._promised.pop(stream, None)

    def _close_half_done(self, stream: Stream) -> None:
        """A half ended: when both did, the stream is closed and forgotten."""
        if stream.own_half >= _ENDED and stream.peer_half >= _ENDED:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """Take the stream out of the table and tell the driver."""
        if not self.table.remove(stream):
            return
        if stream.buffered and self.budget is not None:
            self.budget.used -= stream.buffered
        stream.buffered = 0
        if stream.is_ours and not stream.is_answered and not stream.is_held:
            self.out.backlog_room += 1
        self._growth.release(stream.window)
        if stream.promised:
            self._promise(stream, 0)
        self._events.append(events.StreamClosed(stream))

    def _kill(self, stream: Stream, code: Code, text: str | None) -> None:
        """Both halves are broken off: drop what is queued, tell the owner unless `text` is None, forget the stream."""
        stream.reset_code = code
        stream.own_half = transitions.advance_half(stream.own_half, HalfInput.RESET, ours=True)
        stream.peer_half = transitions.advance_half(stream.peer_half, HalfInput.RESET, ours=True)
        if stream.is_held:
            self.out.forget_held(stream)
            stream.is_answered = True  # it never took room in the backlog
        self.out.queued -= stream.drop()
        if stream.in_ring:
            self.out.scheduler.bury()
        if text is not None:
            self._events.append(events.StreamReset(stream, code, text))
        self._forget(stream)

    def _reset(self, stream: Stream, code: Code, text: str, now: float, *, tell: bool = True) -> None:
        """Reset a live stream from our side; its late frames are swallowed. `tell` its owner unless it was its wish."""
        if not stream.is_held:
            self._send_reset(stream.id, code, text)
            self.table.swallow(stream.id, now)
        self._kill(stream, code, text if tell else None)

    def _send_reset(self, stream_id: int, code: Code, text: str) -> None:
        body = text.encode("utf-8", "replace")[: bounds.RESET_TEXT_MAX_BYTES]
        payload = frames.RESET_PREFIX.pack(code) + body
        self.out.control(HEADER.pack(FrameType.RESET, 0, len(payload), stream_id) + payload)

    def _fail_stream(self, stream: Stream, code: Code, text: str, now: float) -> None:
        """The peer broke a rule of one stream: reset it, tell its owner, and count it against the session."""
        self._reset(stream, code, text, now)
        self._violate(text, now)

    def _violate(self, text: str, now: float) -> None:
        """Count a violation; too many in a minute end the session."""
        self._refuse("violation")
        if not self._violations.take(now):
            raise errors.ProtocolError(f"too many violations, the last: {text}")

    # The end

    def _goaway(self, last_id: int, code: Code, drain_s: float, goodbye: messages.Goodbye) -> None:
        prefix = frames.GOAWAY_PREFIX.pack(last_id, code, min(int(drain_s * 1000), 2**31 - 1))
        payload = prefix + codec.encode(goodbye)
        self.out.control(HEADER.pack(FrameType.GOAWAY, 0, len(payload), 0) + payload)

    def _end(self, reason: EndReason, *, last_id: int = bounds.ANY_ID, goodbye: bool = False) -> None:
        """End the session: every stream gets its fate, the driver one last event. With `goodbye` the peer is told.

        `last_id` is the peer's word on which of our streams it has taken.
        """
        if self._state == SessionState.CLOSED:
            return
        self.end_reason = reason
        self._state = transitions.advance_session(
            self._state,
            SessionInput.GOODBYE if goodbye or reason.kind is EndKind.PEER else SessionInput.LOST,
            ours=True,
        )
        for stream in list(self.table.streams.values()):
            self._kill(stream, self._fate(stream, last_id), reason.text)
        self.out.clear()
        if goodbye:
            goodbye_message = messages.Goodbye(text=reason.text[:1024], retry_ms=int(reason.retry_s * 1000))
            self._goaway(self.table.last_peer_id, reason.code, 0, goodbye_message)
        self._events.append(events.SessionEnded(reason))

    def _fate(self, stream: Stream, last_id: int) -> Code:
        """How a stream ends with its session: REFUSED and DRAINING promise that nothing was executed (P3)."""
        if stream.is_held:
            return Code.REFUSED
        if stream.is_ours and stream.id > last_id:
            return Code.DRAINING
        return Code.SESSION_LOST

    def _fail(self, exc: errors.ProtocolError) -> None:
        """The peer broke the contract: say so and end."""
        logger.warning("peer broke the protocol", extra={"code": exc.code.name, "text": exc.text})
        self._end(EndReason(EndKind.PROTOCOL, exc.code, exc.text), goodbye=True)

    def _exclude(self, last_id: int) -> None:
        """The peer will not take our streams above `last_id`: nothing was executed for them."""
        for stream in [each for each in self.table.streams.values() if each.is_ours and each.id > last_id]:
            self._kill(stream, Code.DRAINING, "not taken by a draining peer")
