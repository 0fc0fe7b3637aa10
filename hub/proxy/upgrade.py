"""An exchange that asks for another protocol: exec, attach, port-forward, a watch over WebSocket.

Behind the 101 bytes pass unread. When we have to end it the client is told why: kubectl prints it and fails. That needs
a client that has whole frames (hub.proxy.framed). So one of usual size waits here until the rest of it has come over
the tunnel, and what has come is not credited meanwhile. In the middle of a larger one we can only reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hub.edge.application import Front
from hub.edge.framing import Request
from hub.proxy.exchange import Exchange
from hub.proxy.framed import Frames, WebSocketFrames, frames_of
from proto.errors import Code
from proto.messages import HttpHead
from proto.websocket import GOING_AWAY, INTERNAL_ERROR, NORMAL

if TYPE_CHECKING:
    from hub.proxy.relay import Relay

HELD_BYTES_MAX: Final = 40 * 1024
"""The largest frame that is held back: what runs in pods is sent in frames of up to 32 KiB (io.Copy)."""

_AGENT_LOST: Final = "riata: the connection to the cluster's agent was lost"
_AGENT_LEFT: Final = "riata: the cluster's agent was shut down"
_API_LOST: Final = "riata: the agent's connection to the API server was lost"
_HUB_ENDED: Final = "riata: the hub ended the connection"


class UpgradeExchange(Exchange):
    """An Exchange whose body, if the cluster agrees, is a conversation."""

    __slots__ = ("_frames", "_held", "_held_max", "_is_agent_leaving")

    def __init__(self, relay: Relay, front: Front, request: Request, request_id: str) -> None:
        super().__init__(relay, front, request, request_id)
        self._frames: Frames | None = None
        self._is_agent_leaving = False
        self._held = bytearray()
        """What has come of a frame that the client has nothing of yet; in one, since it may come byte by byte."""
        self._held_max = 0

    def answer(self, message: HttpHead) -> None:
        super().answer(message)
        if self.is_opaque and self.stream is not None:
            self._held_max = min(HELD_BYTES_MAX, self.stream.window // 4)
            self._frames = frames_of(self.request, message)
            if self.kind.verb == "watch" and isinstance(self._frames, WebSocketFrames):
                self._boundary = self._frames

    def cut_soon(self) -> None:
        self._is_agent_leaving = True
        super().cut_soon()

    def end(self) -> None:
        self._let_go()  # of a frame that the cluster does not finish
        super().end()

    def _pass_on(self, data: bytes | memoryview, wire_bytes: int) -> None:
        frames = self._frames
        if frames is None:
            super()._pass_on(data, wire_bytes)
            return
        frames.feed(data)
        tail = frames.unfinished
        if not tail or tail + frames.left > self._held_max:
            self._let_go(data)
        elif tail > len(data):
            self._held += data
        else:
            whole = len(data) - tail
            self._let_go(data[:whole])
            self._held += data[whole:]

    def _let_go(self, data: bytes | memoryview = b"") -> None:
        if self._held:
            data = b"".join((self._held, data))
            self._held.clear()
        if len(data) and not self.has_ended:
            super()._pass_on(data, len(data))

    def _complete(self, outcome: str) -> None:
        """A watch ends as the API server's own does (P11)."""
        if self._frames is not None:
            self.front.write(self._frames.last_words(NORMAL, ""))
        super()._complete(outcome)

    def _break(self, code: Code | None, reason: str, text: str) -> None:
        words = self._last_words(reason, text)
        if not words:
            super()._break(code, reason, text)
            return
        if code is not None:
            self._release(code, text)
        self.relay.metrics.broken(reason)
        self.front.write(words)
        self._finish(reason, is_reusable=False)

    def _last_words(self, reason: str, text: str) -> bytes:
        """Empty: a reset says all there is to say."""
        frames = self._frames
        if frames is None or frames.unfinished != len(self._held) or self._has_ended_input:
            return b""
        if reason == "cut":
            # At once, for who lost a right or at the end of a grace: a client that is behind would not read them soon.
            return frames.last_words(GOING_AWAY, _HUB_ENDED) if self.front.is_writable else b""
        if reason == "lost" and text == Code.UPSTREAM.name:
            return frames.last_words(INTERNAL_ERROR, _API_LOST)
        if reason == "lost" and text == Code.SESSION_LOST.name:
            return frames.last_words(INTERNAL_ERROR, _AGENT_LEFT if self._is_agent_leaving else _AGENT_LOST)
        return b""
