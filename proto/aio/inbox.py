"""Where messages of a transport go: first to whoever awaits them (the handshake), then to a receiver (the link)."""

import asyncio
from typing import Final, Protocol

WAITING_MAX: Final = 4
"""Messages that may wait before the transport stops reading. A handshake has one under way at a time."""


class Receiver(Protocol):
    """What a bound transport calls, always from the event loop and never from within `bind` or `write`."""

    def message_received(self, message: bytes) -> None:
        """A whole binary message."""

    def part_received(self, size: int) -> None:
        """Some bytes of a message of `size` bytes, which is not whole yet: over a slow way it may take seconds."""

    def transport_writable(self) -> None:
        """The transport has room again after `is_writable` was False."""

    def transport_lost(self, error: Exception) -> None:
        """The last call. EOFError is an orderly end, ConnectionError any other."""


class Inbox:
    """Messages in their order, and the end behind them."""

    __slots__ = ("_error", "_is_bound", "_messages", "_waiter", "receiver")

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self._messages: list[bytes] = []
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_bound = False

    @property
    def is_full(self) -> bool:
        """Nothing more should be read until somebody takes what is there."""
        return not self._is_bound and len(self._messages) >= WAITING_MAX

    def put(self, message: bytes) -> None:
        """A message has arrived."""
        if self.receiver is not None:
            self.receiver.message_received(message)
        else:
            self._messages.append(message)
            self._wake()

    def lose(self, error: Exception) -> None:
        """Nothing follows. Only the first call counts."""
        if self._error is not None:
            return
        self._error = error
        receiver, self.receiver = self.receiver, None  # nobody is called any more, so nobody is held
        if receiver is not None:
            receiver.transport_lost(error)
        else:
            self._wake()

    async def receive(self) -> bytes:
        """The next message. Raises what `lose` was given once there is none. Safe to cancel."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.pop(0)

    def bind(self, receiver: Receiver) -> None:
        """From now on everything goes to `receiver`, beginning with what waited, in the loop's next turn."""
        self._is_bound = True
        asyncio.get_running_loop().call_soon(self._hand_over, receiver)

    def _hand_over(self, receiver: Receiver) -> None:
        while self._messages:
            receiver.message_received(self._messages.pop(0))
        if self._error is None:
            self.receiver = receiver
        else:
            receiver.transport_lost(self._error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
