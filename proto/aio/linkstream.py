"""The handle of one stream, as its owner holds it."""

from typing import Final, Protocol

from proto.aio.owner import StreamOwner
from proto.errors import Code
from proto.messages import Accepted, Headers, HttpHead, StreamClass, StreamKind
from proto.pieces import Buffer
from proto.session import Session
from proto.stream import Stream
from proto.transitions import HalfState

_ACCEPTED: Final = Accepted()
_ENDED: Final = int(HalfState.ENDED)


class StreamLink(Protocol):
    """What a handle needs of its link."""

    session: Session
    name: str

    def clock(self) -> float: ...
    def wake(self) -> None: ...
    def settle(self) -> None: ...


class LinkStream:
    """Handle of one stream. Every method is synchronous, does nothing for a dead stream and is safe after `reset`.

    Steps that our own side must not take (a second head, data after the end) raise UsageError.
    """

    __slots__ = ("_core", "_session", "link", "owner")

    def __init__(self, link: StreamLink, core: Stream, owner: StreamOwner | None) -> None:
        self.link = link
        self.owner = owner
        self._session = link.session
        self._core = core

    def __repr__(self) -> str:
        return f"<LinkStream {self.link.name} {self._core.id}>"

    @property
    def id(self) -> int:
        return self._core.id

    @property
    def kind(self) -> StreamKind:
        return self._core.kind

    @property
    def cls(self) -> StreamClass:
        return self._core.cls

    @property
    def is_closed(self) -> bool:
        """Both halves are complete, or the stream was reset."""
        return self._core.is_closed

    @property
    def peer_ended(self) -> bool:
        """The peer's half is complete; in `on_open` its bytes may still be on their way to the owner."""
        return self._core.peer_half >= _ENDED

    @property
    def compresses(self) -> bool:
        """The body of an answer may be compressed."""
        return self._session.compresses

    @property
    def is_near(self) -> bool:
        """Whether the peer is in the same place: bytes cost less than what would save some."""
        return self._session.is_near

    @property
    def window(self) -> int:
        """Bytes that the opener takes of the answer at once, also when the stream has rested: windows shrink then."""
        return min(self._core.opening_credit, self._session.window)

    @property
    def has_ended(self) -> bool:
        """Our half is complete, or will be after what is queued."""
        return self._core.end_queued or self._core.own_half >= _ENDED

    @property
    def is_bodiless(self) -> bool:
        """In `on_open`: the peer's half is complete, and there is not a byte in it."""
        return self._core.peer_half >= _ENDED and not self._core.buffered

    @property
    def accepted_by_peer(self) -> bool:
        """The acceptor answered with ACCEPT or HEAD."""
        return self._core.is_answered and not self._core.is_reset

    @property
    def was_sent(self) -> bool:
        """The OPEN was handed to the transport: the peer may have seen it."""
        return not self._core.is_held

    @property
    def queued_bytes(self) -> int:
        """Bytes in the send queue."""
        return self._core.queued

    def accept(self, message: Accepted = _ACCEPTED) -> None:
        """Tell the opener that the stream was taken. A second time does nothing."""
        self._session.accept(self._core, message)
        self.link.wake()

    def head(self, message: HttpHead, *, end: bool = False) -> None:
        """Send the response head, with `end` as the whole answer. ACCEPT goes before it by itself where one is due.

        Raise MessageTooBig above 61,440 bytes and UsageError for illegal fields: nothing was sent.
        """
        link = self.link
        self._session.send_head(self._core, message, end=end, now=link.clock())
        link.wake()

    def send(self, data: Buffer, *, end: bool = False) -> bool:
        """Queue bytes without copying them: the caller must not change them afterwards.

        Return False when 256 KiB or more are queued: stop until `writable()`.
        """
        link = self.link
        has_room = self._session.send(self._core, data, end=end, now=link.clock())
        link.wake()
        return has_room

    def end(self) -> None:
        """Complete our half after what is queued. A second time does nothing."""
        if not self.has_ended:
            self.send(b"", end=True)

    def trailers(self, headers: Headers) -> None:
        """Complete our half with trailers."""
        link = self.link
        self._session.send_trailers(self._core, headers, now=link.clock())
        link.wake()

    def reset(self, code: Code, text: str = "") -> None:
        """Break the stream off: queued bytes are dropped, RESET leaves at once, the owner is not called again."""
        link = self.link
        self._session.reset_stream(self._core, code, text, now=link.clock())
        link.settle()

    def consumed(self, n: int) -> None:
        """Return credit for `n` bytes of `data` that have left for the local consumer."""
        self._session.consumed(self._core, n)
        self.link.wake()
