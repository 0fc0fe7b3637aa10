"""The log of several processes on one descriptor: whole lines, whoever else writes."""

from __future__ import annotations

import io
import os
from typing import Final

_ATOMIC_BYTES: Final = 4096
"""PIPE_BUF of Linux: up to here a write to a pipe is not mixed with those of others."""


class WholeLines(io.TextIOBase):
    """A text stream that writes at line ends only, in pieces of at most 4 KiB; a longer line in one write of its own.
    Raises OSError as the descriptor does."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._kept = b""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Keeps what is no whole line yet."""
        lines = (self._kept + text.encode("utf-8", "backslashreplace")).splitlines(keepends=True)
        self._kept = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        piece = b""
        for line in lines:
            if len(piece) + len(line) > _ATOMIC_BYTES:
                self._put(piece)
                piece = b""
            piece += line
        self._put(piece)
        return len(text)

    def flush(self) -> None:
        """Every whole line is written already."""

    def _put(self, piece: bytes) -> None:
        while piece:
            piece = piece[os.write(self._descriptor, piece) :]
