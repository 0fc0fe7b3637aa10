"""How often the agents of a cluster may make the hub write: its store has one writer for all clusters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hub.tunnel.registry import Tunnel
from proto.errors import Code, StreamReset
from proto.window import Bucket

BURST: Final = 600.0
"""A whole pod map and a whole table of nodes, of 256 parts each, and what else begins with a session."""
PER_S: Final = 4.0
"""In the long run: a map of 60 parts, over ten thousand nodes, each 15 s as an agent looks."""
PARTS_A_COMMAND: Final = 4
"""To read so many costs as much as a command that writes: 200 KiB, which pass the main process and a worker."""
CLUSTERS_MAX: Final = 1_000
"""Clusters whose buckets are kept though they may be full."""


class WriteRate:
    """One bucket for each cluster, all its agents and workers of a kind together."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def charge(self, tunnel: Tunnel, parts: int) -> None:
        """It made the hub read so many parts of a table besides."""
        if (bucket := self._buckets.get(tunnel.identity.cluster_uid)) is not None:
            bucket.level -= parts / PARTS_A_COMMAND

    def take(self, tunnel: Tunnel) -> None:
        """Count a command that writes. Raises StreamReset OVERLOADED when there were too many."""
        now, uid = self._now(), tunnel.identity.cluster_uid
        bucket = self._buckets.get(uid)
        if bucket is None:
            if len(self._buckets) >= CLUSTERS_MAX:
                self._buckets = {each: kept for each, kept in self._buckets.items() if not kept.is_full(now)}
            bucket = self._buckets[uid] = Bucket(BURST, PER_S)
        if bucket.is_empty(now):
            raise StreamReset(
                f"the agents of this cluster write too often: {PER_S:.0f} commands a second are taken", Code.OVERLOADED
            )
        bucket.spend(now)
