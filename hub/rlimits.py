"""Limits of the process itself: enough descriptors for the fleet, and no memory image with secrets on the disk."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)


def prepare() -> None:
    """Raise the soft limit of descriptors to the hard one (the usual soft limit of 1024 is under a thousand tunnels),
    and turn core dumps off. A refusal is logged, not fatal: the edge lowers its bound to what it finds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for name, limit, wanted in (
        ("descriptors", resource.RLIMIT_NOFILE, (hard, hard)),
        ("core", resource.RLIMIT_CORE, (0, 0)),
    ):
        try:
            resource.setrlimit(limit, wanted)
        except (OSError, ValueError) as exc:
            logger.warning("process limit not set", extra={"limit": name, "reason": str(exc)})
