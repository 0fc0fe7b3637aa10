"""What may be asked again on another route, and the body that this takes (design P2, P3).

A question is repeated when its answer has not begun. A change is repeated only when the API server surely never had it.
"""

from __future__ import annotations

from typing import Final

from proto.errors import UNEXECUTED, Code

ATTEMPTS_MAX: Final = 3
"""Routes on which a question is asked that may have been delivered: one that ends its agent must not end them all."""
ROUTES_MAX: Final = 8
"""Routes tried for one request in all: five cluster agents and three node agents."""
KEPT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one body: kube-apiserver takes 3 MiB, and the pieces cost something too. A longer one is not repeated."""
KEPT_BYTES_ALL: Final = 32 * 1024 * 1024
"""Of all bodies of a process …"""
KEPT_SHARE: Final = 1 / 8
"""… and at most this part of what it may hold for those who do not read (hub.memory)."""
SHORT_BYTES: Final = 64 * 1024
"""Bodies up to here, which are nearly all, find room while longer ones have half of it: a few stuck uploads shall not
cost everybody the repetition."""
PIECE_BYTES: Final = 64
"""What a piece costs besides its bytes: somebody may send one byte at a time."""

UNREACHED: Final = UNEXECUTED | {
    Code.DIAL_REFUSED,
    Code.DIAL_TIMEOUT,
    Code.DIAL_DNS,
    Code.DIAL_UNREACHABLE,
    Code.KUBE_UNAUTHORIZED,
}
"""Ends after which the API server has executed nothing: the agent did not take the request, found no way to the API
server, or was not let in by it. Another agent may have a way, and has a token of its own."""

BROKEN_OFF: Final = frozenset({Code.SESSION_LOST, Code.CLOSED, Code.UPSTREAM, Code.OVERLOADED})
"""Ends of one way to an answer, which another way may bring: the session, the agent, or its connection to the API
server went away. Not among them: what the agent's policy or a limit forbids, what took too long already, and bugs."""

ELSEWHERE: Final = UNREACHED | BROKEN_OFF
"""After none of them would a request have to end, had its caller more time."""


def may_repeat(code: Code, *, was_sent: bool, is_mutation: bool, attempts: int) -> bool:
    """Whether a request whose stream ended with `code` before its answer began may be asked on the next route, after so
    many `attempts`. `was_sent`: its OPEN was handed to the transport."""
    if not was_sent or code in UNREACHED:
        return attempts < ROUTES_MAX
    return not is_mutation and code in BROKEN_OFF and attempts < ATTEMPTS_MAX


def why(code: Code, *, was_sent: bool) -> str:
    """Metric label of a repetition: `refused`, `unreachable` or `lost`."""
    if not was_sent or code in UNEXECUTED:
        return "refused"
    return "unreachable" if code in UNREACHED else "lost"


class KeptBytes:
    """How many bytes of bodies a process keeps for another route. `budget`: what it may hold for slow readers."""

    def __init__(self, budget: int = KEPT_BYTES_ALL * 8) -> None:
        self._limit = min(KEPT_BYTES_ALL, int(budget * KEPT_SHARE))
        self.used = 0

    def has_room(self, size: int) -> bool:
        """Whether a body of this size, which is counted, may stay."""
        return self.used <= (self._limit if size <= SHORT_BYTES else self._limit // 2)


class KeptBody:
    """What the client has sent of a body, as far as the next route needs it. The pieces are the very objects that the
    send queue holds: only what has left the queue costs anything."""

    __slots__ = ("_books", "_size", "is_whole", "pieces")

    def __init__(self, books: KeptBytes) -> None:
        self._books = books
        self._size = 0
        self.pieces: list[bytes] = []
        self.is_whole = True
        """Everything is here: it can be sent again."""

    def add(self, piece: bytes, *, was_sent: bool) -> None:
        """Keep a piece; one that was not sent yet in any case, others while there is room."""
        if was_sent and not self.is_whole:
            return
        self.pieces.append(piece)
        size = len(piece) + PIECE_BYTES
        self._size += size
        self._books.used += size
        if was_sent:
            self.sent()

    def sent(self) -> None:
        """Everything here was sent: what is too much to keep goes."""
        if self._size > KEPT_BYTES_MAX or not self._books.has_room(self._size):
            self.drop()

    def drop(self) -> None:
        """It is not needed any more. Idempotent."""
        self._books.used -= self._size
        self._size = 0
        self.pieces = []
        self.is_whole = False
