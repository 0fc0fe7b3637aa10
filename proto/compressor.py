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


def _options(level: int) -> Mapping[int, int]:
    return {
        zstd.CompressionParameter.compression_level: level,
        # The window covers the longest block as well as the history and the longest piece that refers to it.
        zstd.CompressionParameter.window_log: 17,
        zstd.CompressionParameter.content_size_flag: 0,
        zstd.CompressionParameter.checksum_flag: 0,
    }


_FAR: Final = _options(1)
_NEAR: Final = _options(-5)
"""To a hub that is near: a list takes half as many bytes more, and three quarters of the time at either end (ADR 9). It
does without codes for literals, which cost more there than the bytes that they save."""
_FRAME_HEADER_BYTES: Final = 6
"""Magic number, descriptor, window: with the flags above always this long."""
_FLUSH_FRAME: Final = zstd.ZstdCompressor.FLUSH_FRAME
_compress_far: Final = zstd.ZstdCompressor(options=_FAR).compress
_compress_near: Final = zstd.ZstdCompressor(options=_NEAR).compress
"""Two contexts for all bodies: each call is a frame of its own and remembers nothing."""


class Compressor:
    """Blocks of one body. Holds its last 16 KiB and no zstd context."""

    __slots__ = ("_block_max", "_compress", "_history", "_may_be_longer", "_options")

    def __init__(self, window: int, *, is_near: bool = False) -> None:
        """`window`: the least credit of the stream; a block takes half of it at most, so that a receiver can always
        return credit before it needs the rest of a block. `is_near`: bytes cost less than packing them well."""
        self._block_max = max(min(BLOCK_MAX_BYTES, window // 2 - BLOCK_HEADER.size), 1)
        self._history = bytearray()
        self._options = _NEAR if is_near else _FAR
        self._compress = _compress_near if is_near else _compress_far
        self._may_be_longer = window >= BLOCK_MAX_BYTES
        """What is longer than a block may be has come out short enough so far. Not where the window is as small as in a
        crowded hub: what a block decodes to is held there for a client that does not read (ADR 23)."""

    def encode(self, data: bytes) -> Iterator[bytes]:
        """Blocks that hold all of `data`: the receiver needs nothing more to decode it. None for no data."""
        size, most = len(data), self._block_max
        if 0 < size <= most:
            yield self._block(data)
            return
        view = memoryview(data)
        for start in range(0, size, BLOCK_MAX_BYTES):
            yield from self._blocks(view[start : start + BLOCK_MAX_BYTES])

    def _blocks(self, piece: memoryview) -> Iterator[bytes]:
        """One where that comes out short enough: each is a write, and more than one, at its receiver's client."""
        most = self._block_max
        if len(piece) > most and self._may_be_longer:
            form, coded = self._coded(piece)
            if 0 < len(coded) <= most:
                extend(self._history, piece)
                yield _written(form, piece, coded)
                return
            self._may_be_longer = False
        for start in range(0, len(piece), most):
            yield self._block(piece[start : start + most])

    def _block(self, piece: bytes | memoryview) -> bytes:
        """`piece` fits into a block as it is."""
        form, coded = self._coded(piece) if len(piece) > SMALL_BYTES else _STORED
        extend(self._history, piece)
        return _written(form, piece, coded) if 0 < len(coded) < len(piece) else _written(Form.STORED, piece, piece)

    def _coded(self, piece: bytes | memoryview) -> tuple[Form, memoryview]:
        """`piece` compressed, without the header of its frame."""
        if len(self._history) > SMALL_BYTES and len(piece) <= REFERRING_MAX_BYTES:
            prefix = zstd.ZstdDict(self._history, is_raw=True).as_prefix
            context = zstd.ZstdCompressor(options=self._options, zstd_dict=prefix)
            return Form.ZSTD_AFTER_HISTORY, memoryview(context.compress(piece, _FLUSH_FRAME))[_FRAME_HEADER_BYTES:]
        return Form.ZSTD, memoryview(self._compress(piece, _FLUSH_FRAME))[_FRAME_HEADER_BYTES:]


_STORED: Final = Form.STORED, memoryview(b"")


def _written(form: Form, piece: bytes | memoryview, coded: bytes | memoryview) -> bytes:
    return b"".join((BLOCK_HEADER.pack(form << 24 | len(piece), len(coded)), coded))


assert max(BLOCK_MAX_BYTES, HISTORY_BYTES + REFERRING_MAX_BYTES) <= 1 << 17
