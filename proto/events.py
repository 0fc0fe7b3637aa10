"""What a session tells its driver. Events are complete when they are made, and are taken in order.

They are classes written by hand: a small request makes four, and what `dataclasses` or msgspec make of a class is
slower where this is compiled (docs/adr/0025-compiled.md).
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from proto import errors, messages

if TYPE_CHECKING:
    from proto.stream import Stream


class StreamOpened:
    """The peer opened a stream. `end` = its half is already complete."""

    __slots__ = ("end", "message", "stream")

    def __init__(self, stream: Stream, message: messages.Opening, end: bool) -> None:
        self.stream = stream
        self.message = message
        self.end = end


class StreamAccepted:
    """The peer took our stream."""

    __slots__ = ("message", "stream")

    def __init__(self, stream: Stream, message: messages.Accepted) -> None:
        self.stream = stream
        self.message = message


class HeadReceived:
    """The final response head. `end` = nothing follows."""

    __slots__ = ("end", "message", "stream")

    def __init__(self, stream: Stream, message: messages.HttpHead, end: bool) -> None:
        self.stream = stream
        self.message = message
        self.end = end


class DataReceived:
    """Bytes of the peer's half, a view into the received message; may be empty when `end`."""

    __slots__ = ("data", "end", "stream")

    def __init__(self, stream: Stream, data: memoryview, end: bool) -> None:
        self.stream = stream
        self.data = data
        self.end = end


class TrailersReceived:
    """Fields after the body; the peer's half is complete."""

    __slots__ = ("headers", "stream")

    def __init__(self, stream: Stream, headers: messages.Headers) -> None:
        self.stream = stream
        self.headers = headers


class StreamReset:
    """The stream is dead, and not by our own `reset`."""

    __slots__ = ("code", "stream", "text")

    def __init__(self, stream: Stream, code: errors.Code, text: str) -> None:
        self.stream = stream
        self.code = code
        self.text = text


class StreamClosed:
    """The stream left the session's table, for whatever reason. Last event of a stream."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream) -> None:
        self.stream = stream


class Writable:
    """The stream's queue fell under its low mark after `send` had answered False."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream) -> None:
        self.stream = stream


class PongReceived:
    """A ping was answered after `rtt_s` seconds."""

    __slots__ = ("rtt_s",)

    def __init__(self, rtt_s: float) -> None:
        self.rtt_s = rtt_s


class MessageReceived:
    """A MSG of the peer."""

    __slots__ = ("body", "droppable", "topic")

    def __init__(self, topic: int, body: bytes, droppable: bool) -> None:
        self.topic = topic
        self.body = body
        self.droppable = droppable


class DrainReceived:
    """The peer takes no new streams. It will end the session after `drain_s` at the latest."""

    __slots__ = ("code", "drain_s", "retry_s", "text")

    def __init__(self, code: errors.Code, text: str, drain_s: float, retry_s: float) -> None:
        self.code = code
        self.text = text
        self.drain_s = drain_s
        self.retry_s = retry_s


class EndKind(enum.Enum):
    """Who or what ended a session."""

    LOCAL = "local"
    """We said goodbye."""
    PEER = "peer"
    """The peer said goodbye."""
    PROTOCOL = "protocol"
    """The peer broke the rules."""
    TIMEOUT = "timeout"
    """A ping stayed unanswered, or the transport took no byte."""
    STALLED = "stalled"
    """Our own loop stood still for longer than the peer waits."""
    TRANSPORT = "transport"
    """The transport ended without a goodbye."""
    INTERNAL = "internal"
    """A bug of ours."""


@dataclasses.dataclass(frozen=True, slots=True)
class EndReason:
    """Why a session ended."""

    kind: EndKind
    code: errors.Code
    text: str = ""
    retry_s: float = 0.0
    """The peer's wish: do not reconnect before this many seconds."""

    @property
    def is_clean(self) -> bool:
        """Both sides knew of the end."""
        return self.kind in {EndKind.LOCAL, EndKind.PEER}


class SessionEnded:
    """The session is over: last event. Every stream's own end came before."""

    __slots__ = ("reason",)

    def __init__(self, reason: EndReason) -> None:
        self.reason = reason


Event = (
    StreamOpened
    | StreamAccepted
    | HeadReceived
    | DataReceived
    | TrailersReceived
    | StreamReset
    | StreamClosed
    | Writable
    | PongReceived
    | MessageReceived
    | DrainReceived
    | SessionEnded
)
