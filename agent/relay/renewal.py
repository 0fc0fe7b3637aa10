"""Waiting, not for long, for a credential that is renewed elsewhere: what was refused is repeated with the new one, and
not with the one that was refused."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from agent.relay.credential import KubeCredential

WAIT_S: Final = 8.0
"""Credential plugins of clouds take one to four seconds; after this it is tried with what there is."""


class Renewal:
    """`told` is called once, by the event loop, unless cancelled."""

    __slots__ = ("_timer", "_told")

    def __init__(self, told: Callable[[], None]) -> None:
        self._told: Callable[[], None] | None = told
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, credential: KubeCredential) -> None:
        """Have it renewed. Tells at once where there is nothing to wait for."""
        renewal = credential.refresh()
        if renewal is None:
            self._settle()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WAIT_S, self._settle)

        def ended(_: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(self._settle)

        renewal.add_done_callback(ended)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._told = None
        self._settle()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        told, self._told = self._told, None
        if told is not None:
            told()


async def renewed(credential: KubeCredential) -> None:
    """Have it renewed, and wait for that. Safe to cancel."""
    told = asyncio.Event()
    renewal = Renewal(told.set)
    renewal.begin(credential)
    try:
        await told.wait()
    finally:
        renewal.cancel()
