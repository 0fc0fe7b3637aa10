"""What stands in the place of a transport that is lost.

A protocol that keeps its transport, and a transport that keeps its protocol (uvloop's TLS does, for ever), go with the
garbage collector only, which a long-running program has come by rarely (proto.aio.loop.settle), and 40 KiB of
OpenSSL's with them. So a protocol puts this there when its connection is lost.
"""

import asyncio
from typing import Final


class _Gone(asyncio.Transport):
    """Takes everything and does nothing, as a transport does after its end."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: object) -> None:
        """Nobody is there."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """There is nothing to read."""

    def resume_reading(self) -> None:
        """There is nothing to read."""

    def close(self) -> None:
        """It is."""

    def abort(self) -> None:
        """It is."""


GONE: Final = _Gone()
