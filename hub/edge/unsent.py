"""Response bytes that wait for the client's transport to have room."""

from __future__ import annotations

import collections
from typing import Final

from proto.pieces import Buffer, put

PIECE_BYTES: Final = 64 * 1024
"""Taken at a time: blocks of 256 KiB would be mapped anew for each (`proto.aio.loop`)."""
FRUGAL_BYTES: Final = 16 * 1024
"""The same of a frugal connection: within TLS it takes up to twice the room."""
READ_BYTES: Final = 1024 * 1024
"""Who has taken so much of an answer reads it: the kernels hold less."""


class Unsent:
    """A queue of bytes, in order. Who fills it feels its bound: no credit is returned for what waits here."""

    __slots__ = ("_has_views", "_pieces", "_size", "_taken", "is_frugal")

    def __init__(self) -> None:
        self._pieces: collections.deque[Buffer] = collections.deque()
        self._size = 0
        self._has_views = False
        self._taken = 0
        self.is_frugal = False

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._size

    def append(self, data: bytes | memoryview) -> None:
        """A view must stay as it is, until `own` at the latest."""
        self._size += len(data)
        if type(data) is memoryview:
            self._has_views = True
        put(self._pieces, data)

    @property
    def is_read(self) -> bool:
        """READ_BYTES were taken since `begin`."""
        return self._taken >= READ_BYTES

    def begin(self) -> None:
        """What is appended from now on is of another answer."""
        self._taken = 0

    def own(self) -> None:
        """Copy what is not ours and waits longer: a view holds the whole message that it is of."""
        if self._has_views:
            self._has_views = False
            self._pieces = collections.deque(bytes(each) if type(each) is memoryview else each for each in self._pieces)

    def take(self) -> Buffer:
        """Remove and return the first piece, and those behind it that fit with it into what is taken at a time."""
        pieces = self._pieces
        first = pieces.popleft()
        if not pieces:  # as for every small answer
            self._taken += self._size
            self._size = 0
            self._has_views = False
            return first
        most = FRUGAL_BYTES if self.is_frugal else PIECE_BYTES
        taken, size = [first], len(first)
        while pieces and size + len(pieces[0]) <= most:
            taken.append(pieces.popleft())
            size += len(taken[-1])
        self._size -= size
        self._taken += size
        return b"".join(taken) if len(taken) > 1 else first

    def take_all(self) -> bytes:
        data = b"".join(self._pieces)
        self.clear()
        return data

    def clear(self) -> None:
        self._pieces.clear()
        self._size = 0
        self._has_views = False
