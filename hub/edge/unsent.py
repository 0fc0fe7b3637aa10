"""Response bytes that wait for the client's transport to have room."""

from __future__ import annotations

import collections
import sys
from typing import Final

FEW: Final = 16
"""Pieces that wait as they came; further ones are put together, since a hostile cluster may send single bytes."""
FULL_BYTES: Final = 16 * 1024
"""… until there are so many bytes in one."""


class Unsent:
    """A queue of bytes, in order. Who fills it feels its bound: no credit is returned for what waits here."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: collections.deque[bytes | bytearray] = collections.deque()
        self._size = 0

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._size

    def append(self, data: bytes) -> None:
        pieces = self._pieces
        self._size += len(data)
        if len(pieces) < FEW:
            pieces.append(data)
            return
        last = pieces[-1]
        if type(last) is bytearray and len(last) < FULL_BYTES:
            last += data
        else:
            pieces.append(bytearray(data))

    def take(self, most: int = sys.maxsize) -> bytes | bytearray:
        """Remove and return the first piece, and those behind it that fit with it into `most` bytes."""
        pieces = self._pieces
        first = pieces.popleft()
        if not pieces:
            self._size = 0
            return first
        taken, size = [first], len(first)
        while pieces and size + len(pieces[0]) <= most:
            taken.append(pieces.popleft())
            size += len(taken[-1])
        self._size -= size
        return b"".join(taken) if len(taken) > 1 else first

    def clear(self) -> None:
        self._pieces.clear()
        self._size = 0
