"""The coding of a compressed body: blocks that a receiver decodes one by one, without a context per stream.

    0        1                          4                                 8
    +--------+--------------------------+---------------------------------+---------
    | form 8 | size 24                  | length 32                       | length bytes
    +--------+--------------------------+---------------------------------+---------

`size` bytes of body became `length` bytes. A watch lives for hours and is idle for most of them: a zstd context would
hold 150 to 340 KiB at either end meanwhile. Here all that either end remembers of a body is its last 16 KiB, to which
a block may refer, and the contexts are those of the process (docs/adr/0009-compression.md). Nothing of one stream ever
reaches another: a block's only references are to itself and to the history of its own body.
"""

import enum
import struct
from typing import Final

from proto import messages

FORMAT: Final = 1
"""Newest coding that this build speaks; `zstd` in `ext` of HELLO, AUTH and HEAD."""
KEY: Final = "zstd"
"""Key in `ext`. HELLO, AUTH: newest format spoken. OPEN: 0 = answer plainly. HEAD: format of the body."""

BLOCK_HEADER: Final = struct.Struct("!II")
"""Form and size in one word, and length."""
BLOCK_MAX_BYTES: Final = 128 * 1024
"""Most bytes that a block decodes to: some 0.1 ms of a receiver's time."""
HISTORY_BYTES: Final = 16 * 1024
"""How far back a block may refer into its body. Three to four Kubernetes objects; more gained 1 % on 5 KB events."""

OFFER: Final[messages.Ext] = {KEY: FORMAT}
PLAINLY: Final[messages.Ext] = {KEY: 0}


class Form(enum.IntEnum):
    """How a block's bytes are to be read."""

    STORED = 0
    """As they are; length = size."""
    ZSTD = 1
    """Blocks of a zstd frame (RFC 8878 §3.1.1.2) without the frame's header; the last one says that it is the last."""
    ZSTD_AFTER_HISTORY = 2
    """The same, decoded as if the body's last 16 KiB so far (or all of it, if it is shorter) were the frame's first
    bytes."""


def is_spoken(ext: messages.Ext) -> bool:
    """Whether the peer's `ext` says that it speaks our format. A newer one includes it."""
    value = ext.get(KEY)
    return isinstance(value, int) and value >= FORMAT


def extend(history: bytearray, piece: bytes | memoryview) -> None:
    """Put one more piece of the body behind the history, in place: for each event this would else copy it twice."""
    if len(piece) >= HISTORY_BYTES:
        history[:] = piece[-HISTORY_BYTES:]
        return
    history += piece
    if (excess := len(history) - HISTORY_BYTES) > 0:
        del history[:excess]


class Histories:
    """How many bodies of a process may be compressed at once: the bound on the memory for their histories."""

    __slots__ = ("_limit", "bodies")

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` 0 turns compression off."""
        self._limit = limit_bytes // HISTORY_BYTES
        self.bodies = 0

    @property
    def is_on(self) -> bool:
        return self._limit > 0

    @property
    def has_room(self) -> bool:
        """Whether one more body may be compressed."""
        return self.bodies < self._limit
