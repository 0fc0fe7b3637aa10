"""The sender's half of the coding: pieces of a body in, blocks out."""

from collections.abc import Iterator, Mapping
from typing import Final

from backports import zstd

from proto.compression import BLOCK_HEADER, BLOCK_MAX_BYTES, HISTORY_BYTES, Form, extend

SMALL_BYTES: Final = 64
"""A piece up to here is stored: its blocks would hardly be shorter, and take ten microseconds. A history up to here is
not referred to (the library needs eight bytes)."""
REFERRING_MAX_BYTES: Final = 32 * 1024
"""A longer piece repeats itself enough: the history gains 6 % there and costs a third of the speed."""

_OPTIONS: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    # The window covers the longest block as well as the history and the longest piece that refers to it.
    zstd.CompressionParameter.window_log: 17,
    zstd.CompressionParameter.content_size_flag: 0,
    zstd.CompressionParameter.checksum_flag: 0,
}
_FRAME_HEADER_BYTES: Final = 6
"""Magic number, descriptor, window: with the flags above always this long."""
_FLUSH_FRAME: Final = zstd.ZstdCompressor.FLUSH_FRAME
_compress: Final = zstd.ZstdCompressor(options=_OPTIONS).compress
"""One context for all bodies: each call is a frame of its own and remembers nothing."""


class Compressor:
    """Blocks of one body. Holds its last 16 KiB and no zstd context."""

    __slots__ = ("_block_max", "_history")

    def __init__(self, window: int) -> None:
        """`window`: the least credit of the stream; a block takes half of it at most, so that a receiver can always
        return credit before it needs the rest of a block."""
        self._block_max = max(min(BLOCK_MAX_BYTES, window // 2 - BLOCK_HEADER.size), 1)
        self._history = bytearray()

    def encode(self, data: bytes) -> Iterator[bytes]:
        """Blocks that hold all of `data`: the receiver needs nothing more to decode it. None for no data."""
        size, most = len(data), self._block_max
        if 0 < size <= most:
            yield self._block(data)
            return
        view = memoryview(data)
        for start in range(0, size, most):
            yield self._block(view[start : start + most])

    def _block(self, piece: bytes | memoryview) -> bytes:
        size = len(piece)
        form, coded = Form.STORED, b""
        if size > SMALL_BYTES:
            if len(self._history) > SMALL_BYTES and size <= REFERRING_MAX_BYTES:
                form = Form.ZSTD_AFTER_HISTORY
                prefix = zstd.ZstdDict(self._history, is_raw=True).as_prefix
                coded = zstd.ZstdCompressor(options=_OPTIONS, zstd_dict=prefix).compress(piece, _FLUSH_FRAME)
            else:
                form = Form.ZSTD
                coded = _compress(piece, _FLUSH_FRAME)
        extend(self._history, piece)
        length = len(coded) - _FRAME_HEADER_BYTES
        if not 0 < length < size:
            return b"".join((BLOCK_HEADER.pack(Form.STORED << 24 | size, size), piece))
        return b"".join((BLOCK_HEADER.pack(form << 24 | size, length), memoryview(coded)[_FRAME_HEADER_BYTES:]))


assert max(BLOCK_MAX_BYTES, HISTORY_BYTES + REFERRING_MAX_BYTES) <= 1 << 17
