"""Bring a session's events to the owners of its streams, and keep what an owner does wrong inside its own stream."""

import logging
from collections.abc import Callable
from typing import Any, Final

from proto import events
from proto.aio.linkstream import LinkStream, StreamLink
from proto.aio.owner import LinkObserver, StreamOwner
from proto.errors import Code
from proto.messages import Accepted, Opening, StreamClass, StreamKind
from proto.stream import Stream

logger = logging.getLogger(__name__)

_ACCEPTED: Final = Accepted()

OnOpen = Callable[[LinkStream, StreamKind, StreamClass, Opening], StreamOwner | None]
"""Called for a stream of the peer; returns its owner, or None when it has already reset the stream."""


class Delivery:
    """Calls the owners of one link's streams, its observer and its callbacks."""

    __deletable__ = ("_link", "_on_end", "_on_open")  # for mypyc (docs/adr/0025-compiled.md)

    __slots__ = ("_link", "_observer", "_on_drain", "_on_end", "_on_message", "_on_open", "probes")

    def __init__(
        self,
        link: StreamLink,
        *,
        on_open: OnOpen,
        observer: LinkObserver | None,
        on_drain: Callable[[events.DrainReceived], None] | None,
        on_message: Callable[[int, bytes], None] | None,
        on_end: Callable[[events.EndReason], None],
    ) -> None:
        self._link = link
        self._on_open = on_open
        self._observer = observer
        self._on_drain = on_drain
        self._on_message = on_message
        self._on_end = on_end
        self.probes: list[Callable[[bool], None]] = []
        """To be called at the next answered ping with True, at the session's end with False."""

    def deliver(self, happened: list[events.Event]) -> None:
        """Deliver events in order. Never raises."""
        for event in happened:
            try:
                if isinstance(event, events.DataReceived):  # what comes often does not go through the table
                    self._data(event)
                elif isinstance(event, events.HeadReceived):
                    self._head(event)
                elif isinstance(event, events.StreamClosed):
                    self._closed(event)
                else:
                    _DELIVER_ONE[type(event)](self, event)
            except Exception:  # an observer or a bug here; owners are guarded one by one
                logger.exception("delivery failed", extra={"link": self._link.name, "event": type(event).__name__})

    def _owner_failed(self, handle: LinkStream, call: str, exc: Exception) -> None:
        """An owner raised: it loses its stream, everyone else goes on."""
        where = {"link": self._link.name, "stream": handle.id, "call": call}
        logger.error("stream owner failed", exc_info=exc, extra=where)
        handle.reset(Code.INTERNAL, "internal error")
        owner, handle.owner = handle.owner, None
        if owner is None or call == "reset":
            return
        try:
            owner.reset(Code.INTERNAL, "internal error")
        except Exception:
            logger.exception("stream owner failed", extra={**where, "call": "reset"})

    def _owner(self, core: Stream) -> tuple[LinkStream, StreamOwner] | None:
        """Return handle and owner, or None when nobody wants to hear of the stream any more."""
        handle = core.user
        if core.is_muted or type(handle) is not LinkStream or handle.owner is None:
            return None
        return handle, handle.owner

    def _opened(self, event: events.StreamOpened) -> None:
        core = event.stream
        handle = LinkStream(self._link, core, None)
        core.user = handle
        if self._observer is not None:
            self._observer.opened(core.kind, core.cls)
        try:
            handle.owner = owner = self._on_open(handle, core.kind, core.cls, event.message)
            if owner is not None and event.end and not core.is_muted:
                owner.end()
        except Exception as exc:
            self._owner_failed(handle, "on_open", exc)
            return
        session = self._link.session
        if owner is None:
            handle.reset(Code.INTERNAL, "nobody took the stream")  # nothing when the callee has reset it, as it must
        elif session.table.unanswered * 2 > session.backlog:
            session.accept(core, _ACCEPTED)  # it is taken: make room in the opener's backlog

    def _accepted(self, event: events.StreamAccepted) -> None:
        self._answered(event.stream)
        if (found := self._owner(event.stream)) is None:
            return
        handle, owner = found
        try:
            owner.accepted(event.message)
        except Exception as exc:
            self._owner_failed(handle, "accepted", exc)

    def _head(self, event: events.HeadReceived) -> None:
        core = event.stream
        self._answered(core)
        if (found := self._owner(core)) is None:
            return
        handle, owner = found
        try:
            owner.head(event.message)
            if event.end and not core.is_muted:
                owner.end()
        except Exception as exc:
            self._owner_failed(handle, "head", exc)

    def _answered(self, core: Stream) -> None:
        if self._observer is not None and not core.is_timed:
            core.is_timed = True
            self._observer.open_latency(core.kind, self._link.clock() - core.opened_at)

    def _data(self, event: events.DataReceived) -> None:
        core = event.stream
        if (found := self._owner(core)) is None:
            return
        handle, owner = found
        try:
            if event.data:
                owner.data(event.data)
            if event.end and not core.is_muted:
                owner.end()
        except Exception as exc:
            self._owner_failed(handle, "data", exc)

    def _trailers(self, event: events.TrailersReceived) -> None:
        if (found := self._owner(event.stream)) is None:
            return
        handle, owner = found
        try:
            owner.trailers(event.headers)
            if not event.stream.is_muted:
                owner.end()
        except Exception as exc:
            self._owner_failed(handle, "trailers", exc)

    def _reset(self, event: events.StreamReset) -> None:
        if event.code is not Code.SESSION_LOST:
            self._answered(event.stream)  # a refusal is an answer
        if (found := self._owner(event.stream)) is None:
            return
        handle, owner = found
        handle.owner = None
        try:
            owner.reset(event.code, event.text)
        except Exception as exc:
            self._owner_failed(handle, "reset", exc)

    def _writable(self, event: events.Writable) -> None:
        if (found := self._owner(event.stream)) is None:
            return
        handle, owner = found
        try:
            owner.writable()
        except Exception as exc:
            self._owner_failed(handle, "writable", exc)

    def _closed(self, event: events.StreamClosed) -> None:
        core = event.stream
        handle, core.user = core.user, None
        if type(handle) is LinkStream:
            # Nobody is called any more. Stream, handle and owner hold each other: unlinked, they go at once instead of
            # waiting for the garbage collector, which costs a twentieth of a small request.
            handle.owner = None
            if self._observer is not None:
                self._observer.closed(core.kind, core.cls)

    def _pong(self, event: events.PongReceived) -> None:
        if self._observer is not None:
            self._observer.rtt(event.rtt_s)
        self._settle_probes(is_alive=True)

    def _settle_probes(self, *, is_alive: bool) -> None:
        probes, self.probes = self.probes, []
        for settled in probes:
            try:
                settled(is_alive)
            except Exception:
                logger.exception("what waited for a ping failed", extra={"link": self._link.name})

    def _message(self, event: events.MessageReceived) -> None:
        if self._on_message is not None:
            self._on_message(event.topic, event.body)

    def _drain(self, event: events.DrainReceived) -> None:
        logger.info("peer drains", extra={"link": self._link.name, "code": event.code.name, "drain_s": event.drain_s})
        if self._on_drain is not None:
            self._on_drain(event)

    def _ended(self, event: events.SessionEnded) -> None:
        """The last event. Link and delivery hold each other, and through them everything of a session (its buffers, its
        tables): unlinked, ten thousand sessions that end in one moment are not left to the garbage collector."""
        self._settle_probes(is_alive=False)
        self._on_end(event.reason)
        self._on_drain = self._on_message = None
        del self._link, self._on_end, self._on_open


_DELIVER_ONE: Final[dict[type, Callable[[Delivery, Any], None]]] = {
    events.StreamOpened: Delivery._opened,
    events.StreamAccepted: Delivery._accepted,
    events.HeadReceived: Delivery._head,
    events.DataReceived: Delivery._data,
    events.TrailersReceived: Delivery._trailers,
    events.StreamReset: Delivery._reset,
    events.StreamClosed: Delivery._closed,
    events.Writable: Delivery._writable,
    events.PongReceived: Delivery._pong,
    events.MessageReceived: Delivery._message,
    events.DrainReceived: Delivery._drain,
    events.SessionEnded: Delivery._ended,
}
"""One table for all: twelve bound methods for each session would be 1.5 KiB, and a cycle."""
