"""What becomes of an upgraded connection whose client has ended its half: it is over within a moment (D7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from proto.aio.linkstream import LinkStream
from proto.errors import Code

HALF_CLOSED_S: Final = 1.0
"""An upgraded connection that one side has ended is closed after this (D7)."""


def cut_soon(cut: Callable[[], None]) -> None:
    """The connection is still there, and its client hears the API server's last words until `cut` is called."""
    asyncio.get_running_loop().call_later(HALF_CLOSED_S, cut)


def break_off_soon(stream: LinkStream, broken_off: Callable[[], None]) -> None:
    """The connection is gone, but what it sent last is still leaving. What the agent has not ended by then is reset,
    which counts among the requests that were left: an agent bears only so many resets (`Limits.reset_burst`)."""

    def look() -> None:
        if not stream.is_closed:
            broken_off()
            stream.reset(Code.CANCELLED, "client gone")

    asyncio.get_running_loop().call_later(HALF_CLOSED_S, look)
