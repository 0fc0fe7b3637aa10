"""How many bytes the tunnels of this process may hold for readers that do not read (P11)."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import Final

SHARE: Final = 0.25
"""Of the memory that this process may use."""

_CGROUP_MAX: Final = pathlib.Path("/sys/fs/cgroup/memory.max")


def buffer_budget(limit_file: pathlib.Path = _CGROUP_MAX) -> int:
    """Bytes: a quarter of the container's memory limit, or of the machine's memory where there is none."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or the word "max"
        total = min(total, int(limit_file.read_text(encoding="ascii")))
    return int(total * SHARE)
