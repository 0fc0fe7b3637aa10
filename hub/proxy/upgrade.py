"""An exchange that asks for another protocol: exec, attach, port-forward, a watch over WebSocket.

Behind the 101 bytes pass unread. When we have to end it, between two frames, the client is told why: kubectl prints it
and fails (hub.proxy.framed). In the middle of one the connection is reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hub.edge.application import Front
from hub.edge.framing import Request
from hub.proxy.exchange import Exchange
from hub.proxy.framed import GOING_AWAY, INTERNAL_ERROR, Frames, WebSocketFrames, frames_of
from proto.errors import Code
from proto.messages import HttpHead
from proto.websocket import NORMAL

if TYPE_CHECKING:
    from hub.proxy.relay import Relay

_AGENT_LOST: Final = "riata: the connection to the cluster's agent was lost"
_AGENT_LEFT: Final = "riata: the cluster's agent was shut down"
_API_LOST: Final = "riata: the agent's connection to the API server was lost"
_HUB_ENDED: Final = "riata: the hub ended the connection"


class UpgradeExchange(Exchange):
    """An Exchange whose body, if the cluster agrees, is a conversation."""

    __slots__ = ("_frames", "_is_agent_leaving")

    def __init__(self, relay: Relay, front: Front, request: Request, request_id: str) -> None:
        super().__init__(relay, front, request, request_id)
        self._frames: Frames | None = None
        self._is_agent_leaving = False

    def answer(self, message: HttpHead) -> None:
        super().answer(message)
        if self.is_opaque and not self.has_ended:
            self._frames = frames_of(self.request, message)
            if self.kind.verb == "watch" and isinstance(self._frames, WebSocketFrames):
                self._boundary = self._frames

    def cut_soon(self) -> None:
        self._is_agent_leaving = True
        super().cut_soon()

    def _pass_on(self, data: bytes | memoryview, wire_bytes: int) -> None:
        if self._frames is not None:
            self._frames.feed(data)
        super()._pass_on(data, wire_bytes)

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
        """Empty: a reset says all there is to say. A client that is behind would not read them soon, and one that has
        ended its half wants none."""
        frames = self._frames
        if frames is None or self._has_ended_input or not self.front.is_writable:
            return b""
        if reason == "cut":
            return frames.last_words(GOING_AWAY, _HUB_ENDED)
        if reason == "lost" and text == Code.UPSTREAM.name:
            return frames.last_words(INTERNAL_ERROR, _API_LOST)
        if reason == "lost" and text == Code.SESSION_LOST.name:
            return frames.last_words(INTERNAL_ERROR, _AGENT_LEFT if self._is_agent_leaving else _AGENT_LOST)
        return b""
