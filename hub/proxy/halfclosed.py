"""What becomes of an upgraded connection whose client has ended its half: it is over within a moment (D7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proto.aio.linkstream import LinkStream
from proto.errors import Code

if TYPE_CHECKING:
    from hub.proxy.exchange import Exchange

HALF_CLOSED_S: Final = 1.0
"""An upgraded connection that one side has ended is closed after this (D7)."""


def cut_soon(exchange: Exchange) -> None:
    """The connection is still there, and its client hears the API server's last words for a moment."""
    asyncio.get_running_loop().call_later(HALF_CLOSED_S, _cut, exchange)


def break_off_soon(exchange: Exchange, stream: LinkStream) -> None:
    """The connection is gone, but what it sent last is still leaving. It counts among the requests that were left until
    the agent has ended its half: what it has not ended in a moment is reset, and an agent bears only so many resets
    (`Limits.reset_burst`)."""
    is_counted = exchange.relay.left(exchange)
    asyncio.get_running_loop().call_later(HALF_CLOSED_S, _break_off, exchange, stream, is_counted)


def _cut(exchange: Exchange) -> None:
    if exchange.has_ended:
        return
    if exchange.stream is not None and not exchange.stream.is_closed:
        exchange.relay.left(exchange)  # it will be reset
    exchange.cut()


def _break_off(exchange: Exchange, stream: LinkStream, is_counted: bool) -> None:
    if not stream.is_closed:
        stream.reset(Code.CANCELLED, "client gone")
    elif is_counted:
        exchange.relay.not_left(exchange)
