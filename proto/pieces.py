"""Bytes that wait in pieces, as they came.

A piece costs some 90 bytes beside what is in it. Whoever writes byte by byte, to somebody who does not read, would hold
forty times the bound of a queue that counts what is in it.
"""

import collections
from typing import Final

Buffer = bytes | bytearray | memoryview

FEW: Final = 16
"""Pieces that wait as they came, whatever their size."""
FULL_BYTES: Final = 16 * 1024
"""A larger one always does; smaller ones are put together until they are so many bytes."""


def put(pieces: collections.deque[Buffer], data: Buffer) -> None:
    """Append `data`, without a copy where it is one of the first or large. Nobody may hold a view of the last piece."""
    if len(pieces) < FEW or len(data) >= FULL_BYTES:
        pieces.append(data)
        return
    last = pieces[-1]
    if type(last) is bytearray and len(last) < FULL_BYTES:
        last += data
    else:
        pieces.append(bytearray(data))
