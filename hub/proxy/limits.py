"""How much one user and one cluster may have under way at once (K7)."""

from __future__ import annotations

import dataclasses

from hub import errors


@dataclasses.dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds of the relay that an operator may tune."""

    per_user: int = 400
    """Short requests of one user at once: apiserver's own default for reads (--max-requests-inflight)."""
    per_cluster: int = 1_000
    """Short requests to one cluster at once."""
    long_per_user: int = 2_000
    """Watches, log streams, sessions and proxied connections of one user at once; a controller holds hundreds."""
    body_bytes_max: int = 16 * 1024 * 1024
    """Request body; apiserver itself takes 3 MiB and says so. Proxied connections (`…/proxy/…`) have no bound."""
    probe_after_s: float = 1.0
    """P7: an OPEN without a byte from its session for this long is followed by a ping."""
    malformed_lines_per_s: float = 10.0
    """Access log lines for requests that were not understood (K8); how many were left out is told with the next one."""
    sweep_interval_s: float = 0.5
    """How often unanswered requests are looked at."""


class InFlight:
    """Counts by user and by cluster; every `enter` is followed by exactly one `leave` with the same arguments."""

    def __init__(self, limits: ProxyLimits) -> None:
        self._limits = limits
        self._short: dict[str, int] = {}
        self._long: dict[str, int] = {}
        self._clusters: dict[str, int] = {}

    def enter(self, user: str, cluster_uid: str, *, is_long: bool) -> None:
        """Raises TooManyRequests and counts nothing."""
        users, bound = (self._long, self._limits.long_per_user) if is_long else (self._short, self._limits.per_user)
        count = users.get(user, 0)
        if count >= bound:
            raise errors.TooManyRequests("you have too many requests under way")
        if not is_long:
            cluster_count = self._clusters.get(cluster_uid, 0)
            if cluster_count >= self._limits.per_cluster:
                raise errors.TooManyRequests("the cluster has too many requests under way")
            self._clusters[cluster_uid] = cluster_count + 1
        users[user] = count + 1

    def leave(self, user: str, cluster_uid: str, *, is_long: bool) -> None:
        _decrement(self._long if is_long else self._short, user)
        if not is_long:
            _decrement(self._clusters, cluster_uid)


def _decrement(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
