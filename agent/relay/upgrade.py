"""Exchanges that ask for another protocol: exec, attach, port-forward, cp, watch over WebSocket.

Nothing of the client's bytes goes to the API server before its 101: if it refuses, those bytes would be read as a
request of ours (CVE-2018-1002105). Behind the 101 both directions are opaque until either side closes; then both close
within a second (facts/security.md §2.D). After any other answer the connection is never used again (the reader sees to
that).
"""

import asyncio
from typing import Final

from agent.relay.exchange import Exchange
from proto.errors import Code
from proto.messages import Headers

CLOSE_DELAY: Final = 0.5
"""Seconds between the client's end and the connection's: time for the API server's last words."""


class UpgradeExchange(Exchange):
    """An Exchange whose body, if the API server agrees, is a conversation."""

    __slots__ = ("_closing", "_is_switched")

    _closing: asyncio.TimerHandle | None
    _is_switched: bool

    def begin(self) -> None:
        """The request has no body, so it starts now."""
        self._closing = None
        self._is_switched = False
        self._left = None
        if self._request.method != "GET":
            self._stream.accept()
        self._start()

    def data(self, chunk: memoryview) -> None:
        if self._is_over:
            self._stream.consumed(len(chunk))
        elif self._is_switched:
            self._send_body(bytes(chunk))
        else:
            self._held.append(bytes(chunk))

    def end(self) -> None:
        self._is_request_ended = True
        if self._is_over:
            return
        if self._is_switched:
            self._closing = asyncio.get_running_loop().call_later(CLOSE_DELAY, self._close)
        else:
            self._give_up(Code.CANCELLED, "the client left before the protocol was switched")

    def on_head(self, status: int, headers: Headers, *, end: bool) -> None:
        super().on_head(status, headers, end=end)
        if status == 101 and self._connection is not None:
            self._is_switched = True
            self._context.counts.upgrades += 1
            held, self._held = self._held, []
            for piece in held:
                self._send_body(piece)

    @property
    def _writes_body_early(self) -> bool:
        return False

    @property
    def is_request_complete(self) -> bool:
        return False

    def _close(self) -> None:
        """The client ended half a second ago: flush, close, and end our half too."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._stream.end()
        self._finish()

    def _finish(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._is_switched and not self._is_over:
            self._context.counts.upgrades -= 1
        super()._finish()
