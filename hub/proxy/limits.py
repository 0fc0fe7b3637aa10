"""How much one user and one cluster may have under way at once (K7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Final, TypeVar

from hub import errors
from proto.window import Bucket

_Key = TypeVar("_Key", bound=Hashable)

OWED_S: Final = 10.0
"""Of the rate of left requests, what may be owed. With all short ones at once that bounds what an agent sees of one
user at 40 a second beyond the rate; more would keep a controller waiting that restarts twice in a row."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds of the relay that an operator may tune."""

    per_user: int = 1_600
    """Short requests of one user at once."""
    per_user_and_cluster: int = 400
    """Of those, to one cluster: apiserver's own default for reads (--max-requests-inflight). A controller of many
    clusters goes on when the API server of one answers nothing any more (facts/security.md R10)."""
    per_cluster: int = 1_000
    """Short requests to one cluster at once."""
    long_per_user: int = 2_000
    """Watches, log streams, sessions and proxied connections of one user at once; a controller holds hundreds."""
    long_per_user_and_cluster: int = 1_000
    """Of those, to one cluster: one user must not use up what the cluster's agent can hold."""
    long_per_cluster: int = 2_500
    """Long requests to one cluster at once; below the 3,072 connections of an agent, so that short ones find room."""
    cancelled_burst: int = 2_500
    """Requests of one user to one cluster whose client left before their end, in a burst: all watches of a big
    controller that restarts; and those whose body was malformed, too long, too slow, or not read to its end. Beyond,
    the user gets 429 there: an agent bounds how many streams are cut in a session, for all users."""
    cancelled_per_s: float = 50.0
    """… and in the long run."""
    body_bytes_max: int = 16 * 1024 * 1024
    """Request body; apiserver itself takes 3 MiB and says so. Proxied connections (`…/proxy/…`) have no bound."""
    probe_after_s: float = 0.4
    """An OPEN without a byte from its session for this long is followed by a ping (P7 asks for it after 1 s)."""
    mute_after_s: float = 0.6
    """A ping behind an OPEN unanswered for this long, and for two round trips: a question takes the next route if there
    is one. With the time before the ping that is the second of D4."""
    answer_timeout_s: float = 120.0
    """From a short request to the head of its answer, then 504: twice apiserver's own bound (--request-timeout, 60 s).
    While its body is under way, for how long the cluster may take nothing of it. Long requests have no bound."""
    malformed_lines_per_s: float = 10.0
    """Access log lines for requests that were not understood (K8); how many were left out is told with the next one."""
    sweep_interval_s: float = 0.1
    """How often unanswered requests are looked at."""


class _Counts:
    """Of requests of one length: by user, by cluster, and between the two."""

    __slots__ = ("between", "of_user", "to_cluster")

    def __init__(self) -> None:
        self.of_user: dict[str, int] = {}
        self.to_cluster: dict[str, int] = {}
        self.between: dict[tuple[str, str], int] = {}


class InFlight:
    """Counts by user and by cluster; every `enter` is followed by exactly one `leave` with the same arguments."""

    def __init__(self, limits: ProxyLimits) -> None:
        self._limits = limits
        self._short, self._long = _Counts(), _Counts()

    def enter(self, user: str, cluster_uid: str, *, is_long: bool) -> None:
        """Raises TooManyRequests and counts nothing."""
        limits = self._limits
        if is_long:
            counts, per_user, per_cluster = self._long, limits.long_per_user, limits.long_per_cluster
            per_user_and_cluster = limits.long_per_user_and_cluster
        else:
            counts, per_user, per_cluster = self._short, limits.per_user, limits.per_cluster
            per_user_and_cluster = limits.per_user_and_cluster
        both = user, cluster_uid
        of_user, between = counts.of_user.get(user, 0), counts.between.get(both, 0)
        to_cluster = counts.to_cluster.get(cluster_uid, 0)
        if of_user >= per_user:
            raise errors.TooManyRequests("you have too many requests under way")
        if between >= per_user_and_cluster:
            raise errors.TooManyRequests("you have too many requests under way to this cluster")
        if to_cluster >= per_cluster:
            raise errors.TooManyRequests("the cluster has too many requests under way")
        counts.of_user[user] = of_user + 1
        counts.between[both] = between + 1
        counts.to_cluster[cluster_uid] = to_cluster + 1

    def leave(self, user: str, cluster_uid: str, *, is_long: bool) -> None:
        counts = self._long if is_long else self._short
        _decrement(counts.of_user, user)
        _decrement(counts.between, (user, cluster_uid))
        _decrement(counts.to_cluster, cluster_uid)

    @property
    def is_empty(self) -> bool:
        """Nothing is counted, and nothing is kept about anybody."""
        return not any(each.of_user or each.between or each.to_cluster for each in (self._short, self._long))


class Impatience:
    """How often a user's requests to a cluster were left by their client before their end, against a rate (rapid reset,
    E9). For each cluster by itself, since it is the agent that bears it: a controller of a whole fleet that restarts
    leaves ten watches of each cluster."""

    def __init__(self, limits: ProxyLimits) -> None:
        self._limits = limits
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def check(self, user: str, cluster_uid: str, now: float) -> None:
        """Raises TooManyRequests while the user's allowance is used up."""
        bucket = self._buckets.get((user, cluster_uid)) if self._buckets else None
        if bucket is not None and bucket.is_empty(now):
            raise errors.TooManyRequests("too many of your requests to this cluster are given up before their end")

    def left(self, user: str, cluster_uid: str, now: float) -> bool:
        """A client left before its answer was whole. What goes beyond the allowance is owed, OWED_S of it at most: any
        number may have been admitted while there was one. False: so much is owed already, and this is not."""
        both = user, cluster_uid
        bucket = self._buckets.get(both)
        if bucket is None:
            bucket = self._buckets[both] = Bucket(self._limits.cancelled_burst, self._limits.cancelled_per_s)
        owed_max = min(self._limits.cancelled_per_s * OWED_S, self._limits.cancelled_burst)
        is_counted = not bucket.is_empty(now) or bucket.level > -owed_max
        if is_counted:
            bucket.take(now)
        return is_counted

    def stayed(self, user: str, cluster_uid: str) -> None:
        """It had not: once for a `left` that was True."""
        bucket = self._buckets.get((user, cluster_uid))
        if bucket is not None:
            bucket.give_back()

    def forget(self, now: float) -> None:
        """Drop what is whole again; called now and then."""
        for both, bucket in tuple(self._buckets.items()):
            if bucket.is_full(now):
                del self._buckets[both]


def _decrement(counts: dict[_Key, int], key: _Key) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
