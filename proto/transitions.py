"""Every legal step of a session and of a stream's halves, as two tables. Nothing else defines a transition.

The tables do not know which side we are: the same rows bind us and the peer. A (state, input) pair that is absent is
a ProtocolError when the peer caused it and a UsageError when we did. What the tables cannot say is in code, next to
the check: which kinds have a HEAD, that only GET and HEAD requests may skip ACCEPT, the credit rules. docs/protocol.md
shows both tables; a test keeps them equal.
"""

import enum
from typing import Final

from proto import errors


class SessionState(enum.IntEnum):
    """Where a session stands."""

    NEW = 0
    """The transport is open, nothing was said."""
    HELLO = 1
    """HELLO was said; AUTH is awaited."""
    AUTH = 2
    """AUTH was said; the hub decides."""
    OPEN = 3
    """Streams may be opened."""
    DRAINING = 4
    """A drain was announced by either side: no new streams, those that run go on."""
    CLOSED = 5
    """Over: nothing more is sent or read."""


class SessionInput(enum.IntEnum):
    """What moves a session, whoever says it."""

    HELLO = 0
    AUTH = 1
    WELCOME = 2
    REFUSED = 3
    OPEN = 4
    """An OPEN that is to be taken."""
    TRAFFIC = 5
    """Any other frame of an open session."""
    DRAIN = 6
    """GOAWAY with time to drain."""
    GOODBYE = 7
    """GOAWAY without: the end."""
    LOST = 8
    """The transport ended, or a timer of docs/protocol.md "Liveness" ran out."""


SESSION: Final[dict[tuple[SessionState, SessionInput], SessionState]] = {
    (SessionState.NEW, SessionInput.HELLO): SessionState.HELLO,
    (SessionState.NEW, SessionInput.LOST): SessionState.CLOSED,
    (SessionState.HELLO, SessionInput.AUTH): SessionState.AUTH,
    (SessionState.HELLO, SessionInput.REFUSED): SessionState.CLOSED,
    (SessionState.HELLO, SessionInput.LOST): SessionState.CLOSED,
    (SessionState.AUTH, SessionInput.WELCOME): SessionState.OPEN,
    (SessionState.AUTH, SessionInput.REFUSED): SessionState.CLOSED,
    (SessionState.AUTH, SessionInput.LOST): SessionState.CLOSED,
    (SessionState.OPEN, SessionInput.OPEN): SessionState.OPEN,
    (SessionState.OPEN, SessionInput.TRAFFIC): SessionState.OPEN,
    (SessionState.OPEN, SessionInput.DRAIN): SessionState.DRAINING,
    (SessionState.OPEN, SessionInput.GOODBYE): SessionState.CLOSED,
    (SessionState.OPEN, SessionInput.LOST): SessionState.CLOSED,
    (SessionState.DRAINING, SessionInput.OPEN): SessionState.DRAINING,
    (SessionState.DRAINING, SessionInput.TRAFFIC): SessionState.DRAINING,
    (SessionState.DRAINING, SessionInput.DRAIN): SessionState.DRAINING,
    (SessionState.DRAINING, SessionInput.GOODBYE): SessionState.CLOSED,
    (SessionState.DRAINING, SessionInput.LOST): SessionState.CLOSED,
}


class HalfState(enum.IntEnum):
    """Where one half of a stream stands: what one of its two sides may still send."""

    IDLE = 0
    """The opener's half before OPEN."""
    AWAITED = 1
    """The acceptor's half after OPEN: neither ACCEPT nor HEAD yet."""
    ACCEPTED = 2
    """The acceptor's half after ACCEPT, kind http: HEAD comes next."""
    FLOWING = 3
    """DATA may be sent."""
    ENDED = 4
    """Complete (FIN or TRAILERS). A stream whose halves are both ENDED is closed and forgotten."""
    RESET = 5
    """Broken off by either side; both halves at once."""


class HalfInput(enum.IntEnum):
    """What moves a half. `_END` is the frame with FIN."""

    OPEN = 0
    OPEN_END = 1
    ACCEPT = 2
    """ACCEPT of a stream that has a HEAD (kind http)."""
    ACCEPT_FLOW = 3
    """ACCEPT of any other kind."""
    HEAD = 4
    HEAD_END = 5
    DATA = 6
    DATA_END = 7
    TRAILERS = 8
    RESET = 9


STREAM: Final[dict[tuple[HalfState, HalfInput], HalfState]] = {
    (HalfState.IDLE, HalfInput.OPEN): HalfState.FLOWING,
    (HalfState.IDLE, HalfInput.OPEN_END): HalfState.ENDED,
    (HalfState.AWAITED, HalfInput.ACCEPT): HalfState.ACCEPTED,
    (HalfState.AWAITED, HalfInput.ACCEPT_FLOW): HalfState.FLOWING,
    (HalfState.AWAITED, HalfInput.HEAD): HalfState.FLOWING,
    (HalfState.AWAITED, HalfInput.HEAD_END): HalfState.ENDED,
    (HalfState.AWAITED, HalfInput.RESET): HalfState.RESET,
    (HalfState.ACCEPTED, HalfInput.HEAD): HalfState.FLOWING,
    (HalfState.ACCEPTED, HalfInput.HEAD_END): HalfState.ENDED,
    (HalfState.ACCEPTED, HalfInput.RESET): HalfState.RESET,
    (HalfState.FLOWING, HalfInput.DATA): HalfState.FLOWING,
    (HalfState.FLOWING, HalfInput.DATA_END): HalfState.ENDED,
    (HalfState.FLOWING, HalfInput.TRAILERS): HalfState.ENDED,
    (HalfState.FLOWING, HalfInput.RESET): HalfState.RESET,
    (HalfState.ENDED, HalfInput.RESET): HalfState.RESET,
}

INPUT_BITS: Final = 4
MISSING: Final = -1


def _flatten() -> tuple[int, ...]:
    flat = [MISSING] * (len(HalfState) << INPUT_BITS)
    for (state, what), after in STREAM.items():
        flat[state << INPUT_BITS | what] = int(after)
    return tuple(flat)


NEXT_HALF: Final = _flatten()
"""STREAM for the hot path: `NEXT_HALF[state << 4 | input]` is the next state or MISSING."""


def advance_session(state: SessionState, what: SessionInput, *, ours: bool) -> SessionState:
    """Return the session's next state; raise UsageError (`ours`) or ProtocolError for an illegal step."""
    after = SESSION.get((state, what))
    if after is None:
        text = f"{what.name} in session state {state.name}"
        raise errors.UsageError(text) if ours else errors.ProtocolError(text)
    return after


def advance_half(state: int, what: HalfInput, *, ours: bool) -> int:
    """Return the half's next state; raise UsageError (`ours`) or ProtocolError for an illegal step."""
    after = NEXT_HALF[state << INPUT_BITS | what]
    if after < 0:
        text = f"{what.name} in half state {HalfState(state).name}"
        raise errors.UsageError(text) if ours else errors.ProtocolError(text)
    return after
