"""The receiver's half of the coding: bytes of a hostile sender in, pieces of a body out, one block at a time.

What a block decodes to is announced, checked against 128 KiB and allocated exactly; zstd writes no byte more. The
caller decides when the next one is decoded: what waits for that is compressed, and the stream's window bounds it.
"""

import struct
from typing import Final, NamedTuple

import zstandard

from proto import errors
from proto.compression import BLOCK_HEADER, BLOCK_MAX_BYTES, HISTORY_BYTES, Form, extend
from proto.pieces import Buffer

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_FRAME_HEADER: Final = struct.Struct("<4sBI")
_SINGLE_SEGMENT: Final = 0b1010_0000
"""Frame descriptor: the content's size in four bytes is the window too; no checksum, no dictionary (RFC 8878
§3.1.1.1.1)."""
_HEADER_BYTES: Final = BLOCK_HEADER.size
_decompress: Final = zstandard.ZstdDecompressor(max_window_size=2 * BLOCK_MAX_BYTES).decompress
"""One context for all bodies: it is given whole frames and remembers nothing of the last one."""


class Piece(NamedTuple):
    """A part of the body, and how many bytes of DATA it came in."""

    data: bytes
    wire_bytes: int


class Decompressor:
    """Pieces of one body. Holds its last 16 KiB, what was fed and not yet decoded, and no zstd context."""

    __slots__ = ("_buffer", "_history")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._history = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Fed and not yet decoded."""
        return len(self._buffer)

    def feed(self, data: Buffer) -> None:
        """Take received bytes; they are copied."""
        self._buffer += data

    def is_ready(self) -> bool:
        """Whether `next` would return a piece or raise."""
        buffer = self._buffer
        if len(buffer) < _HEADER_BYTES:
            return False
        word, length = BLOCK_HEADER.unpack_from(buffer)
        return len(buffer) >= _HEADER_BYTES + length or not _is_legal(word >> 24, word & 0xFFFFFF, length)

    def next(self) -> Piece | None:
        """Decode one block, None when no whole one is there. Raise ProtocolError for a block that breaks the rules; the
        body is lost then."""
        buffer = self._buffer
        if len(buffer) < _HEADER_BYTES:
            return None
        word, length = BLOCK_HEADER.unpack_from(buffer)
        form, size = word >> 24, word & 0xFFFFFF
        if not _is_legal(form, size, length):
            raise errors.ProtocolError("illegal header of a compressed block")
        end = _HEADER_BYTES + length
        if len(buffer) < end:
            return None
        # The views are gone before the buffer shrinks: it could not otherwise.
        if form == Form.STORED:
            data = bytes(memoryview(buffer)[_HEADER_BYTES:end])
        elif form == Form.ZSTD:
            head = _FRAME_HEADER.pack(_MAGIC, _SINGLE_SEGMENT, size)
            data = _decode(b"".join((head, memoryview(buffer)[_HEADER_BYTES:end])))
        else:
            history = self._history
            known = len(history)
            head = _FRAME_HEADER.pack(_MAGIC, _SINGLE_SEGMENT, known + size)
            stored = (known << 3).to_bytes(3, "little")  # header of a raw block that is not the last
            frame = b"".join((head, stored, history, memoryview(buffer)[_HEADER_BYTES:end]))
            data = _decode(frame)[known:]
        del buffer[:end]
        extend(self._history, data)
        return Piece(data, end)


def _is_legal(form: int, size: int, length: int) -> bool:
    if not 0 < size <= BLOCK_MAX_BYTES or length > size or not length:
        return False
    return form == Form.ZSTD or form == Form.ZSTD_AFTER_HISTORY or (form == Form.STORED and length == size)


def _decode(frame: bytes) -> bytes:
    """Exactly as many bytes as the frame's header says. Raise ProtocolError."""
    try:
        return _decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise errors.ProtocolError("a compressed block cannot be decoded") from exc


assert HISTORY_BYTES <= BLOCK_MAX_BYTES
