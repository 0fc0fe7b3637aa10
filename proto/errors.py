"""Codes of the wire and the exceptions that carry them.

An error is born with its code: a ProtocolError ends the session, a StreamReset one stream, a UsageError is a bug of
ours. Codes cross the wire in RESET, GOAWAY and REFUSED; the hub maps them to HTTP answers in one place.
"""

import enum
from typing import Final


class Code(enum.IntEnum):
    """Why a stream or a session ended. Numbers are part of the wire format and never change their meaning."""

    NONE = 0
    """Ended as intended."""
    PROTOCOL = 1
    """The peer broke the rules of docs/protocol.md."""
    INTERNAL = 2
    """A bug or an unforeseen failure on the sender's side."""
    FLOW_CONTROL = 3
    """More bytes than the credit allowed."""
    CLOSED = 4
    """The sender is shutting down, or the far end of the exchange has gone."""
    REFUSED = 5
    """Not taken: nothing was executed, the request may be sent again elsewhere."""
    CANCELLED = 6
    """The requester no longer wants the answer."""
    DIAL_REFUSED = 7
    """The target refused the connection."""
    DIAL_TIMEOUT = 8
    """The target did not answer the dial in time."""
    DIAL_DNS = 9
    """The target's name did not resolve."""
    DIAL_UNREACHABLE = 10
    """No route to the target."""
    IDLE = 11
    """Half-closed and silent for too long."""
    DRAINING = 12
    """The session takes no new streams; for a stream above the last id of a GOAWAY: nothing was executed."""
    FORBIDDEN = 13
    """The agent's own policy does not allow it. Never ends the session."""
    TOO_BIG = 14
    """A message above its limit."""
    OVERLOADED = 15
    """A limit on streams, rate or memory was reached."""
    SUPERSEDED = 16
    """A newer session of the same instance took over."""
    UNKNOWN_STREAM = 17
    """A frame named a stream that the sender of this code does not have."""
    UNAUTHENTICATED = 18
    """The agent's credential was refused."""
    UPSTREAM = 19
    """The API server broke off or spoke nonsense."""
    KUBE_UNAUTHORIZED = 20
    """The API server refuses the agent's own token."""
    REVOKED = 21
    """The credential or the cluster was revoked or deleted."""
    VERSION = 22
    """No common wire version."""
    SESSION_LOST = 255
    """Local only, never on the wire: the transport died under the stream."""


UNEXECUTED: Final = frozenset({Code.REFUSED, Code.DRAINING})
"""A stream that ends with one of these had no effect at the peer: even a mutation may be sent again (P3)."""


def code_of(number: int) -> Code:
    """Return the code for a number from the wire; one that this version does not know becomes INTERNAL."""
    try:
        code = Code(number)
    except ValueError:
        return Code.INTERNAL
    return Code.INTERNAL if code is Code.SESSION_LOST else code


class RiataError(Exception):
    """Root of every error of the protocol. `code` is its form on the wire, `text` is written for outsiders."""

    code: Code = Code.INTERNAL

    def __init__(self, text: str = "", code: Code | None = None) -> None:
        super().__init__(text)
        self.text = text
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.code.name}: {self.text}" if self.text else self.code.name


class ProtocolError(RiataError):
    """The peer broke the contract: the session ends with this code."""

    code = Code.PROTOCOL


class VersionMismatch(ProtocolError):
    """The version ranges of the two peers do not meet."""

    code = Code.VERSION


class UsageError(RiataError):
    """Our own code asked for something the protocol does not allow: a bug."""


class MessageTooBig(UsageError):
    """A control message above its size limit. The caller answers with 431 or TOO_BIG; nothing was sent."""

    code = Code.TOO_BIG


class StreamReset(RiataError):
    """One stream ended with a code; the session lives."""


class SessionLost(RiataError):
    """The session has ended."""

    code = Code.SESSION_LOST


class SessionDraining(RiataError):
    """The session takes no new streams."""

    code = Code.DRAINING


class TooManyStreams(RiataError):
    """The limit of streams, or of bytes waiting in OPENs, is reached."""

    code = Code.OVERLOADED
