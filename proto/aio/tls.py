"""What all TLS connections of ours have in common."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

RECORD_BYTES: Final = 16 * 1024
"""The most that one read gives: a record's plaintext (RFC 8446 §5.1)."""


class RecordReads(ssl.SSLObject):
    """One end of a connection, read record by record (`SSLContext.sslobject_class`).

    uvloop asks for 256 KiB whenever it reads into no buffer of ours, as several times while it closes a connection, and
    an object of that size was mapped, touched and unmapped for nothing: four fifths of the page faults of an exec.
    """

    def read(self, len: int = 1024, buffer: Buffer | None = None) -> bytes:  # noqa: A002 as the base names it
        """As the base does: who wants more than there is of one record reads again in any case."""
        return super().read(min(len, RECORD_BYTES)) if buffer is None else super().read(len, buffer)
