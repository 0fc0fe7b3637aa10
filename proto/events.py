"""What a session tells its driver. Events are complete when they are made, and are taken in order.

They are msgspec structs because making one costs a tenth of a frozen dataclass, and a small request makes four.
"""

import enum
from typing import TYPE_CHECKING

import msgspec

from proto import errors, messages

if TYPE_CHECKING:
    from proto.stream import Stream
else:
    Stream = object


class _Event(msgspec.Struct, frozen=True, gc=False):
    pass


class StreamOpened(_Event, frozen=True):
    """The peer opened a stream. `end` = its half is already complete."""

    stream: Stream
    message: messages.Opening
    end: bool


class StreamAccepted(_Event, frozen=True):
    """The peer took our stream."""

    stream: Stream
    message: messages.Accepted


class HeadReceived(_Event, frozen=True):
    """The final response head. `end` = nothing follows."""

    stream: Stream
    message: messages.HttpHead
    end: bool


class DataReceived(_Event, frozen=True):
    """Bytes of the peer's half, a view into the received message; may be empty when `end`."""

    stream: Stream
    data: memoryview
    end: bool


class TrailersReceived(_Event, frozen=True):
    """Fields after the body; the peer's half is complete."""

    stream: Stream
    headers: messages.Headers


class StreamReset(_Event, frozen=True):
    """The stream is dead, and not by our own `reset`."""

    stream: Stream
    code: errors.Code
    text: str


class StreamClosed(_Event, frozen=True):
    """The stream left the session's table, for whatever reason. Last event of a stream."""

    stream: Stream


class Writable(_Event, frozen=True):
    """The stream's queue fell under its low mark after `send` had answered False."""

    stream: Stream


class PongReceived(_Event, frozen=True):
    """A ping was answered after `rtt_s` seconds."""

    rtt_s: float


class MessageReceived(_Event, frozen=True):
    """A MSG of the peer."""

    topic: int
    body: bytes
    droppable: bool


class DrainReceived(_Event, frozen=True):
    """The peer takes no new streams. It will end the session after `drain_s` at the latest."""

    code: errors.Code
    text: str
    drain_s: float
    retry_s: float


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


class EndReason(msgspec.Struct, frozen=True):
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


class SessionEnded(_Event, frozen=True):
    """The session is over: last event. Every stream's own end came before."""

    reason: EndReason


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
