"""What a link calls: the owner of a stream, and whoever counts."""

from typing import Protocol

from proto.errors import Code
from proto.messages import Accepted, Headers, HttpHead, StreamClass, StreamKind


class StreamOwner(Protocol):
    """Implemented by the hub's proxy and the agent's exchange.

    Called from the link's reader, writer or timer: must not block and should not raise. A call that raises is logged
    and costs its own stream (INTERNAL), never the session.
    """

    def accepted(self, message: Accepted) -> None:
        """The peer took the stream. Not called when HEAD came at once."""
        ...

    def head(self, message: HttpHead) -> None:
        """The final response head, or 101."""
        ...

    def data(self, chunk: memoryview) -> None:
        """Bytes of the peer's half, valid during the call only; `stream.consumed(n)` follows when they left."""
        ...

    def trailers(self, headers: Headers) -> None:
        """Fields after the body; `end` follows."""
        ...

    def end(self) -> None:
        """The peer's half is complete."""
        ...

    def reset(self, code: Code, text: str) -> None:
        """The stream is dead; last call. SESSION_LOST when the session ended under it. Not called for own resets."""
        ...

    def writable(self) -> None:
        """The send queue has room again after `send` returned False."""
        ...


class LinkObserver(Protocol):
    """Counts for metrics. Cheap, must not raise. Byte counts and refusals come once a second and at the end."""

    def bytes(self, direction: str, cls: StreamClass, n: int) -> None:
        """`n` DATA bytes went `in` or `out` since the last call."""
        ...

    def opened(self, kind: StreamKind, cls: StreamClass) -> None:
        """A stream was opened by either side."""
        ...

    def closed(self, kind: StreamKind, cls: StreamClass) -> None:
        """A stream ended, however."""
        ...

    def rtt(self, seconds: float) -> None:
        """A ping was answered."""
        ...

    def open_latency(self, kind: StreamKind, seconds: float) -> None:
        """A stream of ours was answered (ACCEPT or HEAD) this long after `open`."""
        ...

    def stalled(self, seconds: float, *, begins: bool) -> None:
        """For this long every queued byte waited for the peer's credit. `begins`: it did not at the last look."""
        ...

    def refused(self, reason: str) -> None:
        """Something of the peer was refused: streams, resets, kind, violation, unknown_stream, slow_reader."""
        ...

    def late(self, code: Code, n: int) -> None:
        """`n` frames came after the session had ended with `code`, and were dropped unread."""
        ...
