"""Decoder of chunked request bodies (RFC 9112 §7.1), strict: CRLF only, bounded extensions, trailers dropped."""

from __future__ import annotations

import enum
import re
from typing import Final

from hub import errors
from hub.edge.limits import CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX

_LINE_BYTES_MAX: Final = 16 + CHUNK_EXTENSION_BYTES_MAX
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})((?:;[\t\x20-\x7e\x80-\xff]*)?)")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class _State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()


class ChunkedDecoder:
    """Feed bytes, get the body. Retains at most one line; raises BadRequest for anything irregular."""

    __slots__ = ("_buffer", "_extensions", "_left", "_state", "_trailers")

    def __init__(self) -> None:
        self._state = _State.SIZE
        self._buffer = b""
        self._left = 0
        self._extensions = 0
        self._trailers = 0

    @property
    def is_done(self) -> bool:
        return self._state is _State.DONE

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The body bytes in `data`, and the bytes behind its end (empty unless `is_done`).

        Time is linear in `data`, however small its chunks are: one read of one-byte chunks must not hold the loop.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end and self._state is not _State.DONE:
            if self._state is _State.DATA:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                if not self._left:
                    self._state = _State.DATA_END
                continue
            line_end = self._line_end(data, position, end)
            if line_end < 0:
                self._buffer = data[position:]
                return _joined(pieces), b""
            self._line(data[position : line_end - 1])
            position = line_end + 1
        return _joined(pieces), data[position:]

    def _line_end(self, data: bytes, position: int, end: int) -> int:
        """Where the LF of the line at `position` is, -1 when it has not arrived."""
        found = data.find(b"\n", position, position + _LINE_BYTES_MAX + 2)
        if found < 0:
            if end - position > _LINE_BYTES_MAX:
                raise errors.BadRequest("a line of the chunked body is too long")
        elif found == position or data[found - 1] != 13:
            raise errors.BadRequest("a line of the chunked body does not end in CRLF")
        return found

    def _line(self, line: bytes) -> None:
        if self._state is _State.SIZE:
            self._size(line)
        elif self._state is _State.DATA_END:
            if line:
                raise errors.BadRequest("a chunk is longer than its size")
            self._state = _State.SIZE
        elif line:
            self._trailers += len(line)
            if self._trailers > TRAILER_BYTES_MAX or _TRAILER.fullmatch(line) is None:
                raise errors.BadRequest("the trailer section is malformed or too long")
        else:
            self._state = _State.DONE

    def _size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise errors.BadRequest("a chunk size is malformed")
        self._extensions += len(match[2])
        if self._extensions > CHUNK_EXTENSION_BYTES_MAX:
            raise errors.BadRequest("the chunk extensions are too long")
        self._left = int(match[1], 16)
        self._state = _State.DATA if self._left else _State.TRAILER


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
