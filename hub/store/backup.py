"""A copy of the database in one piece, made beside a hub that runs.

The file alone is none: what was acknowledged lately is in the write-ahead log beside it (https://sqlite.org/wal.html).
Nothing is held in memory: in a container the hub's limit is the backup's too, and the kernel would end the hub.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from hub.store.model import StoreError
from hub.store.sqlite import beside

_BUSY_S: Final = 10.0
_ROOM: Final = 2
"""Times its size that must be free beside the database: the hub goes on writing."""


def write(path: Path, to: Path) -> None:
    """Copy everything committed until now to `to`, an empty file. Writers are not held up, and what is copied is looked
    through. Raises StoreError."""
    with contextlib.closing(_target(to)) as copy:
        _copy(path, copy)


def nameless(path: Path) -> BinaryIO:
    """The same, as an open file that is gone with its process. Raises StoreError, OSError."""
    needed, free = _size(path), shutil.disk_usage(path.parent).free
    if free < _ROOM * needed:
        raise StoreError(
            f"{path} cannot be copied beside itself: {_ROOM} times its {needed} bytes have to be free there, and "
            f"{free} are. Name a file on another disk instead of `-`"
        )
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".backup-")
    file = os.fdopen(descriptor, "rb")
    try:
        try:
            copy = _target(Path(name))
        finally:
            Path(name).unlink()
        with contextlib.closing(copy):
            _copy(path, copy)
    except BaseException:
        file.close()
        raise
    return file


def _size(path: Path) -> int:
    """With what its log may add to it."""
    logged = path.with_name(f"{path.name}-wal")
    try:
        return path.stat().st_size + (logged.stat().st_size if logged.exists() else 0)
    except OSError as exc:
        raise StoreError(f"{path} cannot be copied: {exc.strerror}") from exc


def _target(to: Path) -> sqlite3.Connection:
    """The open file. Without a journal: its name may be gone, and what is not whole is thrown away."""
    try:
        copy = sqlite3.connect(to)
        copy.execute("PRAGMA journal_mode = OFF")
    except sqlite3.Error as exc:
        raise StoreError(f"{to} cannot be written: {exc}") from exc
    return copy


def _copy(path: Path, copy: sqlite3.Connection) -> None:
    try:
        with contextlib.closing(beside(path, _BUSY_S)) as source:
            source.execute("BEGIN")  # what is looked through is what is copied
            (found,) = source.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise StoreError(f"{path} is damaged: {found}")
            source.backup(copy)
    except sqlite3.Error as exc:
        raise StoreError(f"{path} cannot be copied: {exc}") from exc
