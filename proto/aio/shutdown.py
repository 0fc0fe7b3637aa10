"""SIGTERM and SIGINT become one event; a second signal ends the process at once."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

logger = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """The wish to end. Create it inside the running loop; `close()` gives the signals back."""

    def __init__(self, *, leave: Callable[[int], object] = os._exit) -> None:
        self._event = asyncio.Event()
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._installed = False
        self.signal: int | None = None
        """The signal that asked first; None while nobody did, or when `request` was called."""

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Only the main thread may."""
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self.receive, number)
        self._installed = True

    def close(self) -> None:
        """Restore the default handling. May be repeated."""
        if not self._installed:
            return
        self._installed = False
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal: the first asks for an orderly end, the second ends the process with status 128 + number."""
        if self._event.is_set():
            logger.warning("second signal %s: leaving at once", signal.Signals(number).name)
            self._leave(128 + number)
            return
        self.signal = number
        logger.info("received %s: draining", signal.Signals(number).name)
        self._event.set()

    def request(self) -> None:
        """Ask for an orderly end from inside the process."""
        self._event.set()

    @property
    def is_requested(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait for the wish to end. Safe to cancel."""
        await self._event.wait()
