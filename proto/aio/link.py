"""Drive one session over one transport: a reader, a writer, a timer. It decides nothing.

The reader never waits for anything but the next message, so a slow consumer cannot stop a keepalive; the writer is the
only one who writes; owners are called back directly, because a task or a future per request would cost more than the
whole protocol. All frames queued within one turn of the loop leave in one WebSocket message.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from proto import events
from proto.aio.delivery import Delivery, OnOpen
from proto.aio.linkstream import LinkStream
from proto.aio.owner import LinkObserver, StreamOwner
from proto.aio.tasks import TaskGroup
from proto.aio.transport import NOTSENT_LOWAT_BYTES, SLOW_NOTSENT_LOWAT_BYTES, Transport
from proto.errors import Code
from proto.events import EndKind, EndReason
from proto.messages import Opening, StreamClass, StreamKind
from proto.session import Session

__all__ = ["EndReason", "Link", "LinkObserver", "LinkStream", "OnOpen", "StreamOwner"]

logger = logging.getLogger(__name__)

GOODBYE_S: Final = 2.0
"""How long the last message and the WebSocket's close handshake may take before the transport is aborted."""

LAST_WORDS_S: Final = 1.0
"""How long the reader may go on after a failed write."""

_CLASSES: Final = tuple(StreamClass)
_SPOKEN: Final = frozenset({EndKind.LOCAL, EndKind.PEER, EndKind.PROTOCOL})
"""Ends after which the transport still works and is closed in order."""
_CLOSE_CODES: Final = {EndKind.PROTOCOL: 1002, EndKind.INTERNAL: 1011}


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` runs like the loop's own; it is read directly because uvloop's is coarse (1 ms, once a turn)."""
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
        self._idle: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[EndReason] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed_at = 0.0
        self._drained: set[asyncio.Future[None]] = set()
        self._is_delivering = False
        self._is_slow = False
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
    def streams(self) -> int:
        """Open streams."""
        return len(self.session.table.streams)

    @property
    def queued_bytes(self) -> int:
        """DATA bytes in all send queues."""
        return self.session.out.queued

    # Wishes

    def open(
        self, message: Opening, owner: StreamOwner, *, kind: StreamKind, cls: StreamClass, end: bool = False
    ) -> LinkStream:
        """Open a stream; `end` = nothing follows. Raise SessionDraining, TooManyStreams, SessionLost, MessageTooBig."""
        core = self.session.open_stream(message, kind=kind, cls=cls, end=end, now=self.clock())
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
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.add(waiter)
            try:
                await waiter
            finally:
                self._drained.discard(waiter)

    # Driving

    async def run(self) -> EndReason:
        """Drive the session until it ends and return why. Every stream's owner was reset by then, no task is left.

        Cancelling drops the transport: the owners are reset with SESSION_LOST, then CancelledError is raised.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        try:
            async with TaskGroup(self.name) as group:
                if self.session.end_reason is not None:  # closed before it ran: only the goodbye is left
                    self._ended.set_result(self.session.end_reason)
                self.session.start(self.clock())
                reader = group.spawn(self._read(), name="reader")
                writer = group.spawn(self._write(reader), name="writer")
                self._arm_timer(loop)
                self.settle()
                reason = await self._ended
                if reason.kind in _SPOKEN:
                    await asyncio.wait({writer}, timeout=GOODBYE_S)
                self._transport.abort()
                return reason
        finally:
            self.session.receive_eof("the link was cancelled")
            self.settle()
            if self._timer is not None:
                self._timer.cancel()
            self._transport.abort()

    def wake(self) -> None:
        """Something may be in the outbox: let the writer look."""
        idle = self._idle
        if idle is not None and (self.session.out or not self.session.is_open):
            self._idle = None
            if not idle.done():
                idle.set_result(None)

    def settle(self) -> None:
        """After a step of the session: deliver what happened, and let the writer look."""
        session = self.session
        if session.has_events and not self._is_delivering:
            self._is_delivering = True
            while happened := session.events():
                self._delivery.deliver(happened)
            self._is_delivering = False
        if self._drained and (not session.is_open or session.is_drained):
            for waiter in self._drained:
                if not waiter.done():
                    waiter.set_result(None)
        self.wake()

    async def _read(self) -> None:
        session, receive, clock = self.session, self._transport.receive, self.clock
        try:
            while session.is_open:
                message = await receive()
                session.receive(message, clock())
                self.settle()
        except EOFError:
            session.receive_eof("the peer closed the transport")
        except OSError as exc:  # ConnectionError and its kin, TLS included
            session.receive_eof(f"transport failed: {type(exc).__name__}")
        except Exception:
            logger.exception("reader failed", extra={"link": self.name})
            session.receive_eof("internal error")
        self.settle()

    async def _write(self, reader: asyncio.Task[None]) -> None:
        try:
            await self._write_messages()
            reason = self.session.end_reason
            assert reason is not None  # the loop above ends with the session
            if reason.kind in _SPOKEN:
                await self._transport.close(_CLOSE_CODES.get(reason.kind, 1000), reason.code.name)
        except OSError as exc:
            # The peer's goodbye may lie unread before the end of the transport, and it knows which streams were
            # never taken. The reader meets the same end by itself, as a rule within this turn of the loop.
            await asyncio.wait({reader}, timeout=LAST_WORDS_S)
            self.session.receive_eof(f"transport failed: {type(exc).__name__}")
        except Exception:
            logger.exception("writer failed", extra={"link": self.name})
            self.session.receive_eof("internal error")
        self.settle()

    async def _write_messages(self) -> None:
        session, send, clock = self.session, self._transport.send, self.clock
        loop = asyncio.get_running_loop()
        while True:
            if not session.has_output:
                if not session.is_open:
                    return
                self._idle = idle = loop.create_future()
                await idle
                continue
            message = session.outbox(clock())
            if session.has_events:
                self.settle()
            if message:
                await send(message)
                session.written()

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
            self._follow_rate()
        except Exception:  # without its timer a session would neither ping nor notice a death
            logger.exception("timer failed", extra={"link": self.name})
            self.session.receive_eof("internal error")
            self.settle()
        if self.session.is_open:
            self._arm_timer(loop)

    def _follow_rate(self) -> None:
        """A slow transport gets a smaller kernel buffer: what lies there cannot be overtaken by a keystroke."""
        is_slow = self.session.out.is_slow
        if is_slow is not self._is_slow:
            self._is_slow = is_slow
            self._transport.limit_unsent(SLOW_NOTSENT_LOWAT_BYTES if is_slow else NOTSENT_LOWAT_BYTES)

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
        self._observe(0.0)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)
