"""Small answers, held back until they are whole (issue 6: losing an agent is no event for a reader).

A question may be asked on another route while not a byte of its answer was forwarded (P3), and whoever asked for a
change can be told that its outcome is unknown (P2). The head and the first bytes of a list leave the agent some
milliseconds before the last ones; forwarded at once, an agent that dies between them costs its reader the answer. So
they wait here: for the end, for so many bytes, or for a moment in which the session says something else. One that says
nothing may be dead, and what is held may be asked on another route (hub.proxy.silence), or ends with the session. Most
answers are whole when their head is read, and never come here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hub.proxy.replay import PIECE_BYTES, UNREACHED
from proto.aio.linkstream import LinkStream
from proto.errors import Code
from proto.messages import Accepted, Headers, HttpHead

if TYPE_CHECKING:
    from hub.proxy.exchange import Exchange

HELD_BYTES_MAX: Final = 64 * 1024
"""Of one answer, as it came through the tunnel. The stream's credit, which is not returned meanwhile, bounds it too."""
HELD_S: Final = 0.1
"""An answer is a slow one, and its reader gets what is there, when its end has not come for this long though its agent
was heard so long behind the last of it."""
SLOW_S: Final = 0.5
"""So is one of which anything comes so long behind its head: its session lives."""


class HeldAnswer:
    """Owns the stream (proto.aio.owner.StreamOwner) in place of its exchange while the answer waits."""

    __slots__ = ("_exchange", "_holding", "_message", "_parts", "_room", "heard_at", "since", "stream")

    def __init__(self, holding: Holding, exchange: Exchange, stream: LinkStream, message: HttpHead) -> None:
        self._holding = holding
        self._exchange = exchange
        self._message = message
        self._parts: list[bytes] = []
        self._room = min(HELD_BYTES_MAX, stream.window // 2)
        self.stream = stream
        self.since = self.heard_at = holding.now()
        """When its head came, and when the last of it."""

    def accepted(self, message: Accepted) -> None:
        self._exchange.accepted(message)

    def head(self, message: HttpHead) -> None:
        """There is one only (proto.transitions)."""

    def writable(self) -> None:
        """The request's body goes on behind an early answer."""
        self._exchange.writable()

    def data(self, chunk: memoryview) -> None:
        self.heard_at = now = self._holding.now()
        self._room -= max(len(chunk), PIECE_BYTES)
        self._parts.append(bytes(chunk))
        if self._room < 0 or now - self.since > SLOW_S:
            self.release()

    def trailers(self, headers: Headers) -> None:
        self.release()
        self._exchange.trailers(headers)

    def end(self) -> None:
        self.release()
        self._exchange.end()

    def reset(self, code: Code, text: str) -> None:
        """Nothing was forwarded: the exchange asks again, or tells its client. There was a head, so the API server had
        the request whatever the agent says now, and a change is not repeated (P3)."""
        self._holding.forget(self)
        self._exchange.reset(Code.UPSTREAM if code in UNREACHED else code, text)

    @property
    def is_over(self) -> bool:
        """The exchange has left the stream, or was given it already."""
        return self._exchange.stream is not self.stream or self.stream.owner is not self

    @property
    def is_session_heard(self) -> bool:
        """Whether the agent goes on, without the rest of this: what it sent to others right behind it, or what another
        worker says of when it was heard, proves nothing."""
        link = self._exchange.link
        return link is None or link.last_received_at - self.heard_at >= HELD_S

    def release(self) -> None:
        """Hand over what is here; from now on the exchange is called itself. A second time does nothing."""
        self._holding.forget(self)
        if self.is_over:
            return
        exchange = self.stream.owner = self._exchange
        parts, self._parts = self._parts, []
        exchange.answer(self._message)
        for part in parts:
            exchange.data(memoryview(part))


class Holding:
    """The answers of a process that are held."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._held: dict[HeldAnswer, None] = {}
        """In the order of their beginning."""

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, exchange: Exchange, stream: LinkStream, message: HttpHead) -> bool:
        """Take the stream over, if its answer is to wait for its end; whether it is."""
        if exchange.kind.is_long_running:
            return False
        held = stream.owner = HeldAnswer(self, exchange, stream, message)
        self._held[held] = None
        return True

    def forget(self, held: HeldAnswer) -> None:
        self._held.pop(held, None)

    def look(self) -> None:
        """Called every tenth of a second or so: what has waited long enough goes on."""
        due = self.now() - HELD_S
        for held in tuple(self._held):
            if held.since > due:
                return
            if held.is_over or held.is_session_heard:
                held.release()
