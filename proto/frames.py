"""The frame: eight bytes of header and a payload; several frames make one WebSocket message.

    0        1        2                 4                                 8
    +--------+--------+-----------------+---------------------------------+---------
    | type 8 | flags 8| length 16       | stream 32                       | payload
    +--------+--------+-----------------+---------------------------------+---------

Big-endian. A frame never continues in the next message.
"""

import enum
import struct
from typing import Final

from proto import errors

HEADER: Final = struct.Struct("!BBHI")
HEADER_BYTES: Final = HEADER.size

OPEN_PREFIX: Final = struct.Struct("!BBI")
"""Head of an OPEN's payload: class, kind, credit for the acceptor's half."""
OPEN_FRAME: Final = struct.Struct("!BBHIBBI")
"""Header and payload head of an OPEN in one go."""
U32: Final = struct.Struct("!I")
"""WINDOW: increment. Head of an ACCEPT's payload: additional credit for the opener's half. Elements of SYNC."""
RESET_PREFIX: Final = struct.Struct("!H")
"""Head of a RESET's payload: code."""
GOAWAY_PREFIX: Final = struct.Struct("!IHI")
"""Head of a GOAWAY's payload: last id, code, drain milliseconds."""
PING_BYTES: Final = 8
"""Opaque bytes of a PING, returned in its answer."""


class FrameType(enum.IntEnum):
    """First byte of a frame."""

    HELLO = 0x01
    OPEN = 0x02
    ACCEPT = 0x03
    DATA = 0x04
    WINDOW = 0x05
    RESET = 0x06
    PING = 0x07
    GOAWAY = 0x08
    MSG = 0x09
    SYNC = 0x0A
    TRAILERS = 0x0B
    HEAD = 0x0C
    AUTH = 0x0D
    WELCOME = 0x0E
    REFUSED = 0x0F


EXTENSION_MIN: Final = 0x80
"""Types from here to 0xFF are extensions: a receiver skips those that it does not know."""


class Flag(enum.IntFlag):
    """Second byte of a frame. One bit may mean different things in different types."""

    FIN = 1
    """OPEN, HEAD, DATA: the sender's half ends with this frame."""
    ACK = 1
    """PING: this is the answer."""
    DROPPABLE = 1
    """MSG: may be dropped under pressure."""


ALLOWED_FLAGS: Final[dict[FrameType, int]] = {
    FrameType.OPEN: Flag.FIN,
    FrameType.DATA: Flag.FIN,
    FrameType.HEAD: Flag.FIN,
    FrameType.PING: Flag.ACK,
    FrameType.MSG: Flag.DROPPABLE,
}
"""Bits that may be set, by type; a type that is not here has none. Any other bit is a protocol error."""

SESSION_TYPES: Final = frozenset(
    {
        FrameType.HELLO,
        FrameType.AUTH,
        FrameType.WELCOME,
        FrameType.REFUSED,
        FrameType.PING,
        FrameType.GOAWAY,
        FrameType.SYNC,
        FrameType.MSG,
    }
)
"""Types that belong to stream 0, the session itself. WINDOW may name 0 or a stream, all others name a stream."""


def encode(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return HEADER.pack(kind, flags, len(payload), stream) + payload


def split(message: bytes) -> list[tuple[int, int, int, bytes]]:
    """Return the frames of a message as (type, flags, stream, payload); raise ProtocolError when they do not fill it.

    For the handshake, tests and tools. `proto.session` has its own loop that copies no DATA.
    """
    found: list[tuple[int, int, int, bytes]] = []
    position, end = 0, len(message)
    while position < end:
        if end - position < HEADER_BYTES:
            raise errors.ProtocolError("truncated frame header")
        kind, flags, length, stream = HEADER.unpack_from(message, position)
        position += HEADER_BYTES
        if position + length > end:
            raise errors.ProtocolError("frame longer than its message")
        found.append((kind, flags, stream, message[position : position + length]))
        position += length
    if not found:
        raise errors.ProtocolError("message without a frame")
    return found


def count(message: bytes) -> int:
    """Return how many frames a message begins, as far as it can be read, 1,000 at most: for one that is dropped."""
    found = position = 0
    while found < 1000 and len(message) - position >= HEADER_BYTES:
        position += HEADER_BYTES + HEADER.unpack_from(message, position)[2]
        found += 1
    return found


def describe(kind: int, flags: int, stream: int, length: int) -> str:
    """Return a frame's log form: type, stream, length and flags, never payload."""
    name = FrameType(kind).name if kind in FrameType._value2member_map_ else f"0x{kind:02X}"
    return f"{name} stream={stream} length={length}" + (f" flags={flags:#x}" if flags else "")
