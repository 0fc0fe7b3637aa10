"""Small private files that survive a crash: whole or not at all, and on the disk."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Make `path` a file of mode 0600 with this content, durable on return. Blocks. Raises OSError: the old one is
    there still, or the new one is."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
