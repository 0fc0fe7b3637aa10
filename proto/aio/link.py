"""Drive one session over one transport: a reader, a writer, a timer. It decides nothing.

Everything is a callback: a message is handled in the call that brought it, owners are called back directly, and what
was queued within one turn of the loop leaves at its end in one WebSocket message. Tasks and futures for each of these
steps would cost more than the whole protocol. Reading never waits, so a slow consumer cannot stop a keepalive; only
`_flush` writes.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from proto import events, frames, websocket
from proto.aio.busypoll import Leg, never
from proto.aio.delivery import Delivery, OnOpen
from proto.aio.linkstream import LinkStream
from proto.aio.owner import LinkObserver, StreamOwner
from proto.aio.transport import Transport
from proto.errors import Code
from proto.events import EndKind, EndReason
from proto.messages import Opening, StreamClass, StreamKind
from proto.session import Session
from proto.window import CREDIT_MAX

__all__ = ["EndReason", "Link", "LinkObserver", "LinkStream", "OnOpen", "StreamOwner"]

logger = logging.getLogger(__name__)

GOODBYE_S: Final = 2.0
"""How long the last message and the WebSocket's close handshake may take before the transport is aborted."""

_CLASSES: Final = tuple(StreamClass)
_SPOKEN: Final = frozenset({EndKind.LOCAL, EndKind.PEER, EndKind.PROTOCOL})
"""Ends after which the transport still works and is closed in order."""
_CLOSE_CODES: Final = {EndKind.PROTOCOL: websocket.PROTOCOL_ERROR, EndKind.INTERNAL: websocket.INTERNAL_ERROR}


class Link:
    """One session on one transport. `run()` lives as long as the session."""

    def __init__(
        self,
        session: Session,
        transport: Transport,
        *,
        on_open: OnOpen,
        name: str,
        observer: LinkObserver | None = None,
        on_drain: Callable[[events.DrainReceived], None] | None = None,
        on_message: Callable[[int, bytes], None] | None = None,
        on_end: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        leg: Leg | None = None,
    ) -> None:
        """`clock` runs like the loop's own; it is read directly because uvloop's is coarse (1 ms, once a turn).
        `on_end`: the session has ended, and its streams; `run` returns when the goodbye is said, which may take
        GOODBYE_S. `leg`: whether the loop stays awake for the peer's answers; it does not when None."""
        self.session = session
        self.name = name
        self.clock = clock
        self._transport = transport
        self._delivery = Delivery(
            self,
            on_open=on_open,
            observer=observer,
            on_drain=on_drain,
            on_message=on_message,
            on_end=self._session_ended,
        )
        self._observer = observer
        self._on_end = on_end
        self._leg = leg or never()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Set while `run` drives it."""
        self._is_flush_due = False
        self._ended: asyncio.Future[EndReason] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed_at = 0.0
        self._waiting: dict[asyncio.Future[None], None] = {}
        """For the end of a drain, or for the last message to have been written."""
        self._is_delivering = False
        self._is_stalled = False

    def __repr__(self) -> str:
        return f"<Link {self.name} {self.session.state.name}>"

    # State

    @property
    def peer(self) -> str:
        """Address of the far end, for logs."""
        return self._transport.peer

    @property
    def is_open(self) -> bool:
        """The session has not ended. A draining one is open."""
        return self.session.is_open

    @property
    def may_open(self) -> bool:
        """The peer takes new streams; so it may while only we have announced a drain (our ids run out)."""
        return self.session.may_open

    @property
    def is_draining(self) -> bool:
        """Either side has announced a drain."""
        return self.session.is_draining

    @property
    def end_reason(self) -> EndReason | None:
        """Why the session ended; None while it lives."""
        return self.session.end_reason

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round trip, None before the first answered ping."""
        return self.session.liveness.rtt_s

    @property
    def last_received_at(self) -> float:
        """When the last byte of the peer arrived, on `clock`."""
        return self.session.liveness.last_received_at

    @property
    def unanswered_ping_at(self) -> float | None:
        """When the oldest ping without an answer was sent; None when all are answered."""
        return self.session.liveness.unanswered_ping_at

    @property
    def compresses(self) -> bool:
        """Bodies of answers may be compressed."""
        return self.session.compresses

    @property
    def streams(self) -> int:
        """Open streams."""
        return len(self.session.table.streams)

    @property
    def queued_bytes(self) -> int:
        """DATA bytes in all send queues."""
        return self.session.out.queued

    def owners(self) -> list[StreamOwner]:
        """Whose streams are open."""
        handles = [core.user for core in self.session.table.streams.values()]
        return [each.owner for each in handles if isinstance(each, LinkStream) and each.owner is not None]

    # Wishes

    def open(
        self,
        message: Opening,
        owner: StreamOwner,
        *,
        kind: StreamKind,
        cls: StreamClass,
        end: bool = False,
        window: int = CREDIT_MAX,
        is_long: bool = False,
    ) -> LinkStream:
        """Open a stream; `end` = nothing follows; `window`: the most credit for the answer at first, bytes; `is_long`:
        the answer may be, and gets more over a long way. Raise SessionDraining, TooManyStreams, SessionLost,
        MessageTooBig."""
        core = self.session.open_stream(
            message, kind=kind, cls=cls, end=end, window=window, is_long=is_long, now=self.clock()
        )
        handle = LinkStream(self, core, owner)
        core.user = handle
        if self._observer is not None:
            self._observer.opened(kind, cls)
        self.wake()
        return handle

    def probe(self, settled: Callable[[bool], None] | None = None) -> None:
        """Send a PING now unless one is unanswered; `settled` is called once: True at the next answer, False when the
        session ends first (at once if it has ended)."""
        if settled is not None:
            if not self.session.is_open:
                settled(False)
                return
            self._delivery.probes.append(settled)
        self.session.ping(self.clock())
        self.wake()

    def send_message(self, topic: int, body: bytes, *, droppable: bool = True) -> bool:
        """Queue a one-shot message of at most 16 KiB; tell whether it found room."""
        has_room = self.session.send_message(topic, body, droppable=droppable)
        self.wake()
        return has_room

    def lose(self, stream_ids: Iterable[int], text: str) -> None:
        """Streams of ours end as with a session, on the peer's word."""
        self.session.lose(stream_ids, text, now=self.clock())
        self.settle()

    def send_drain(
        self,
        deadline_s: float,
        code: Code = Code.DRAINING,
        text: str = "",
        *,
        retry_s: float = 0.0,
    ) -> None:
        """Announce that we take no new streams. At the deadline the session ends; `close` it earlier once `drained`."""
        self.session.drain(deadline_s, code, text, retry_s=retry_s, now=self.clock())
        self.settle()

    def close(self, code: Code, text: str = "", *, retry_s: float = 0.0) -> None:
        """Say goodbye and end. Owners are reset before this returns; `run` returns soon after."""
        self.session.close(code, text, retry_s=retry_s)
        self.settle()

    async def drained(self) -> None:
        """Wait until a drain is settled and no stream is left, or the session has ended. Safe to cancel."""
        while self.session.is_open and not self.session.is_drained:
            await self._step()

    async def emptied(self) -> None:
        """Wait until no stream is left and all is written, or the session has ended. Safe to cancel."""
        while self.session.is_open and (self.streams or self.session.has_output):
            await self._step()

    # Driving

    async def run(self) -> EndReason:
        """Drive the session until it ends and return why. Every stream's owner was reset by then, no task is left.

        Cancelling drops the transport: the owners are reset with SESSION_LOST, then CancelledError is raised.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        try:
            self._transport.bind(self)
            if self.session.end_reason is not None:  # closed before it ran: only the goodbye is left
                self._ended.set_result(self.session.end_reason)
            self.session.start(self.clock())
            self._arm_timer(loop)
            self.settle()
            reason = await self._ended
            if reason.kind in _SPOKEN:
                await self._say_goodbye(reason)
            return reason
        finally:
            self.session.receive_eof("the link was cancelled")
            self.settle()
            if self._timer is not None:
                self._timer.cancel()
            ended = self.session.end_reason
            if ended is not None and ended.kind is EndKind.TIMEOUT:
                self._transport.reset()
            else:
                self._transport.abort()

    def wake(self) -> None:
        """Something may be in the outbox: write it when this turn of the loop is over."""
        if self._is_flush_due or self._loop is None or not self._transport.is_writable:
            return
        if self.session.out:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def settle(self) -> None:
        """After a step of the session: deliver what happened, and have written what is to be written."""
        session = self.session
        if session.has_events and not self._is_delivering:
            self._is_delivering = True
            while happened := session.events():
                self._delivery.deliver(happened)
            self._is_delivering = False
        self.wake()
        if self._waiting:
            self._wake_waiting()

    # Receiver

    def message_received(self, message: bytes) -> None:
        session = self.session
        if (reason := session.end_reason) is not None:
            # Of a session that was fenced (superseded, revoked) nothing has an effect any more.
            if self._observer is not None:
                self._observer.late(reason.code, frames.count(message))
            return
        self._leg.arrived(len(message))
        try:
            session.receive(message, self.clock())
        except Exception:
            logger.exception("message failed", extra={"link": self.name})
            session.receive_eof("internal error")
        self.settle()

    def part_received(self, size: int) -> None:
        if self.session.end_reason is None:
            self.session.liveness.heard(size, self.clock())

    def transport_writable(self) -> None:
        self.session.written()
        self._flush()

    def transport_lost(self, error: Exception) -> None:
        if isinstance(error, EOFError):
            self.session.receive_eof("the peer closed the transport")
        else:
            self.session.receive_eof(f"transport failed: {type(error).__name__}")
        self.settle()

    # Internals

    def _flush(self) -> None:
        """Write one message of what is queued, if the transport takes it. Others have the loop before the next one: a
        keystroke that comes meanwhile goes into that (ADR 10)."""
        self._is_flush_due = False
        session, transport = self.session, self._transport
        try:
            if session.has_output and transport.is_writable:
                message = session.outbox(self.clock())
                if message:
                    transport.write(message)
                    self._leg.sent(len(message))
                    if transport.is_writable:
                        session.written()
        except Exception:
            logger.exception("writing failed", extra={"link": self.name})
            session.receive_eof("internal error")
        if session.has_events or self._waiting:
            self.settle()
        else:
            self.wake()

    async def _say_goodbye(self, reason: EndReason) -> None:
        """Write what is left and close the WebSocket, in GOODBYE_S."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(GOODBYE_S):
                while self.session.has_output:
                    await self._step()
                await self._transport.close(_CLOSE_CODES.get(reason.kind, websocket.NORMAL), reason.code.name)

    async def _step(self) -> None:
        """Wait for the next step of the session or the transport."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def _wake_waiting(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _arm_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self.clock()
        self._timed_at = now
        self._timer = loop.call_later(max(self.session.next_timer(now) - now, 0.0), self._on_timer, loop)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self.clock()
        try:
            self.session.handle_timer(now)
            self.settle()
            self._observe(now - self._timed_at)
        except Exception:  # without its timer a session would neither ping nor notice a death
            logger.exception("timer failed", extra={"link": self.name})
            self.session.receive_eof("internal error")
            self.settle()
        if self.session.is_open:
            self._arm_timer(loop)

    def _observe(self, elapsed: float) -> None:
        """Hand over what was counted since the last beat."""
        observer, session = self._observer, self.session
        if observer is None:
            return
        for direction, counts in (("in", session.received_bytes), ("out", session.out.sent_bytes)):
            for cls in _CLASSES:
                if counts[cls]:
                    observer.bytes(direction, cls, counts[cls])
                    counts[cls] = 0
        if session.refusals:
            refusals, session.refusals = session.refusals, {}
            for reason, count in refusals.items():
                for _ in range(count):
                    observer.refused(reason)
        is_stalled = session.out.is_stalled
        if is_stalled:
            observer.stalled(elapsed, begins=not self._is_stalled)
        self._is_stalled = is_stalled

    def _session_ended(self, reason: EndReason) -> None:
        """Whatever the observer does wrong, `on_end` is called; whatever both do, `run` goes on and drops the transport
        in the next turn of the loop."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)
        on_end, self._on_end = self._on_end, None
        try:
            self._observe(0.0)
        finally:
            if on_end is not None:
                on_end()
