"""A compressed body on its way to the client: decoded as fast as the client reads and the loop allows.

What is decoded is written at once; what waits for the client, or for its turn of the loop, waits compressed, in the
stream's window. So an answer that inflates a thousandfold costs its reader's time and nobody's memory.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Final, Protocol

from proto.decompressor import Decompressor, Piece
from proto.errors import ProtocolError

STEP_BYTES: Final = 512 * 1024
"""Decoded in one turn of the loop, over all bodies: about 1 ms with what writing them costs."""
BLOCK_COST_BYTES: Final = 8 * 1024
"""What a block counts at least towards it: thousands of tiny ones take time too."""
FLUSH_BYTES: Final = 64 * 1024
"""Written between two looks at whether the client takes it."""


class Sink(Protocol):
    """The exchange."""

    @property
    def may_take(self) -> bool:
        """The client reads, and the exchange has not ended."""

    def take(self, piece: Piece) -> None:
        """Pass a piece of the body on; its credit is the exchange's business."""

    def flush(self) -> None:
        """Hand the socket what was taken."""

    def garbled(self, error: ProtocolError) -> None:
        """The agent broke the coding: end the exchange."""


class Turns:
    """Divides the loop's time between the bodies of a process: who has waited longest goes first."""

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon` runs a call in the loop's next turn."""
        self._soon = soon
        self._spent = 0
        self._is_due = False
        self._waiting: collections.deque[CompressedBody] = collections.deque()

    @property
    def is_over(self) -> bool:
        """So much was decoded that others must have their turn."""
        return self._spent >= STEP_BYTES

    def spend(self, size: int) -> None:
        """So many bytes were decoded. Counted over turns until a body has to wait: a timer for each would cost more."""
        self._spent += size

    def wait(self, body: CompressedBody) -> None:
        """Let `body` go on in the next turn."""
        self._waiting.append(body)
        self._arm()

    def _arm(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._soon(self._next)

    def _next(self) -> None:
        self._is_due = False
        self._spent = 0
        for _ in range(len(self._waiting)):
            if self.is_over:
                self._arm()
                return
            self._waiting.popleft().go_on()


class CompressedBody:
    """One of them."""

    __slots__ = ("_decompressor", "_ending", "_is_waiting", "_sink", "_turns")

    def __init__(self, sink: Sink, turns: Turns) -> None:
        self._sink = sink
        self._turns = turns
        self._decompressor = Decompressor()
        self._ending: Callable[[], None] | None = None
        self._is_waiting = False

    @property
    def pending_bytes(self) -> int:
        """Received and not yet decoded."""
        return self._decompressor.pending_bytes

    @property
    def is_ending(self) -> bool:
        """Nothing more will come, and something is left."""
        return self._ending is not None

    @property
    def is_behind(self) -> bool:
        """A whole block waits for the client or for the next turn."""
        return self._decompressor.is_ready()

    def feed(self, chunk: memoryview) -> None:
        """Take bytes of the stream, decode what may be decoded."""
        self._decompressor.feed(chunk)
        self.advance()

    def end_with(self, ending: Callable[[], None]) -> None:
        """Nothing more will come: call `ending` behind the last block. The first one asked for counts."""
        if self._ending is None:
            self._ending = ending

    def advance(self) -> None:
        """Go on, if the client has room; called when it has again."""
        if not self._is_waiting:
            self._decode()

    def go_on(self) -> None:
        """The turn that it waited for has come."""
        self._is_waiting = False
        self._decode()

    def _decode(self) -> None:
        sink, decompressor, turns = self._sink, self._decompressor, self._turns
        unflushed = 0
        while sink.may_take:
            if turns.is_over and decompressor.is_ready():
                self._is_waiting = True
                turns.wait(self)
                return
            try:
                piece = decompressor.next()
            except ProtocolError as error:
                sink.garbled(error)
                return
            if piece is None:
                break
            size = len(piece.data)
            turns.spend(max(size, BLOCK_COST_BYTES))
            unflushed += size
            sink.take(piece)
            if unflushed >= FLUSH_BYTES:
                unflushed = 0
                sink.flush()
        if self._ending is not None and not self.is_behind:
            ending, self._ending = self._ending, None
            ending()
