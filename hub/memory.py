"""How many bytes this process may hold for readers that do not read (P11)."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Sequence
from typing import Final

SHARE: Final = 0.25
"""Of the memory that this process may use."""

_LIMITS: Final = (
    pathlib.Path("/sys/fs/cgroup/memory.max"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container finds its limit: cgroup v2, v1."""


def buffer_budget(limit_files: Sequence[pathlib.Path] = _LIMITS) -> int:
    """Bytes: a quarter of the container's memory limit, or of the machine's memory where there is none."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limit_files:
        with contextlib.suppress(OSError, ValueError):  # no cgroup, or the word "max"
            total = min(total, int(file.read_text(encoding="ascii")))
    return int(total * SHARE)
