"""A stream of another worker's request, carried on over this worker's tunnel: bytes and ends, both ways, unread.

`near` is the stream on the hop, `far` the one on the tunnel. Credit of one side returns when the other side has taken
the bytes, so that a slow client slows its cluster here as it does in one process.
"""

from __future__ import annotations

from hub.tunnel.route import is_dead
from proto import errors as wire
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.errors import Code
from proto.messages import Accepted, Headers, HttpHead, Opening, StreamClass, StreamKind


class Half:
    """Owner of one of the two streams: what it hears goes to the other one."""

    __slots__ = ("_owed", "_stream", "other")

    def __init__(self, stream: LinkStream | None = None) -> None:
        self._stream = stream
        self._owed = 0
        self.other: Half | None = None

    @property
    def stream(self) -> LinkStream:
        assert self._stream is not None  # set before the loop can call
        return self._stream

    @stream.setter
    def stream(self, stream: LinkStream) -> None:
        self._stream = stream

    @property
    def _to(self) -> LinkStream | None:
        """Where it goes; None when the other side is over."""
        return None if self.other is None else self.other.stream

    # -- proto.aio.owner.StreamOwner

    def accepted(self, message: Accepted) -> None:
        if (to := self._to) is not None:
            to.accept(message)

    def head(self, message: HttpHead) -> None:
        if (to := self._to) is not None:
            to.head(message)

    def data(self, chunk: memoryview) -> None:
        to = self._to
        if to is None or to.send(bytes(chunk)):
            self.stream.consumed(len(chunk))
        else:
            self._owed += len(chunk)

    def trailers(self, headers: Headers) -> None:
        if (to := self._to) is not None:
            to.trailers(headers)

    def end(self) -> None:
        if (to := self._to) is not None:
            to.end()

    def reset(self, code: Code, text: str) -> None:
        to = self._to
        self._part()
        if to is not None:
            self._pass_on(to, code, text)

    def writable(self) -> None:
        """Our stream has room again: what the other side is owed for returns."""
        other = self.other
        if other is not None and other._owed:
            owed, other._owed = other._owed, 0
            other.stream.consumed(owed)

    def _pass_on(self, to: LinkStream, code: Code, text: str) -> None:
        to.reset(code, text)

    def _part(self) -> None:
        if self.other is not None:
            self.other.other = None
            self.other = None


class NearHalf(Half):
    """Owner of the stream on the hop."""

    __slots__ = ()

    def _pass_on(self, to: LinkStream, code: Code, text: str) -> None:
        to.reset(Code.CANCELLED if code is Code.SESSION_LOST else code, text)


class FarHalf(Half):
    """Owner of the stream on the tunnel."""

    __slots__ = ("_lost",)

    def __init__(self, lost: list[int]) -> None:
        super().__init__()
        self._lost = lost

    def _pass_on(self, to: LinkStream, code: Code, text: str) -> None:
        # No RESET can tell that the session was lost: whether a change was executed is unknown.
        if code is not Code.SESSION_LOST:
            to.reset(code, text)
        elif not to.has_ended:  # a whole answer is one, whatever becomes of the rest of the question
            self._lost.append(to.id)


def splice(
    near: LinkStream, kind: StreamKind, cls: StreamClass, message: Opening, link: Link, lost: list[int]
) -> Half | None:
    """Open the stream on the tunnel; the owner for `near`, or None when it was refused: nothing was sent then. `lost`
    gets the id of `near` if the tunnel ends before the answer is whole."""
    if is_dead(link, link.clock()):  # only here it is known: the other worker would not have chosen it (P7)
        near.reset(Code.REFUSED, "the agent does not answer pings")
        return None
    far_half = FarHalf(lost)
    try:
        # A block of a compressed answer takes half of this credit at most: it has to fit through the hop's too.
        far_half.stream = link.open(message, far_half, kind=kind, cls=cls, end=near.is_bodiless, window=near.window)
    except (wire.SessionDraining, wire.SessionLost, wire.TooManyStreams) as refused:
        near.reset(Code.REFUSED, refused.text)
        return None
    except wire.MessageTooBig:
        near.reset(Code.TOO_BIG, "the request head does not fit")
        return None
    near_half = NearHalf(near)
    near_half.other, far_half.other = far_half, near_half
    return near_half
