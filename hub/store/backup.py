"""A copy of the database in one piece, made beside a hub that runs.

The file alone is none: what was acknowledged lately is in the write-ahead log beside it (https://sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from hub.store.model import StoreError

_BUSY_S = 10.0


def image(path: Path) -> bytes:
    """The content of a database file that holds everything committed until now; writers are not held up. It is made in
    memory, and looked through. Raises StoreError."""
    try:
        source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        with contextlib.closing(source), contextlib.closing(sqlite3.connect(":memory:")) as copy:
            source.backup(copy)
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise StoreError(f"{path} is damaged: {found}")
            return copy.serialize()
    except sqlite3.Error as exc:
        raise StoreError(f"{path} cannot be copied: {exc}") from exc
