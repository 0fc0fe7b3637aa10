"""Which tunnels the other workers own, as they announce them. A view: no I/O, no links.

Announcements of one worker arrive in order, those of different workers in any. So two workers may take sessions of one
instance before they hear of each other; both then come to the same verdict by `loses`, and one closes its own.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence

from hub.auth.nodes import ROLE_NODE
from hub.tunnel.lastseen import LastSeen
from hub.tunnel.registry import Tunnel
from hub.workers.messages import Opened


@dataclasses.dataclass(slots=True, eq=False)
class Remote:
    """A tunnel of another worker."""

    opened: Opened
    is_draining: bool = False
    is_open: bool = True

    @property
    def connected_since(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.opened.connected_at, datetime.UTC)


class Directory:
    """`now`: the clock of the links. `wall`: current time for people."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], datetime.datetime]) -> None:
        self._now = now
        self._wall = wall
        self._sessions: dict[str, Remote] = {}
        self._clusters: dict[str, list[Remote]] = {}
        self._nodes: dict[str, list[Remote]] = {}
        """Of role node, those that may serve and those that may not."""
        self._serving: dict[str, list[Remote]] = {}
        """Of both, those that may serve."""
        # A deleted cluster's last sessions end at their owner, which tells so behind `forget`: hence bounded.
        self._lost: LastSeen[tuple[float, datetime.datetime]] = LastSeen()
        """Of role cluster."""
        self._fallback_lost: LastSeen[float] = LastSeen()

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def of_cluster(self, cluster_uid: str) -> Sequence[Remote]:
        """Those of role cluster."""
        return self._clusters.get(cluster_uid, ())

    def serving(self, cluster_uid: str) -> Sequence[Remote]:
        """Those that a request may take."""
        return self._serving.get(cluster_uid, ())

    def nodes_of(self, cluster_uid: str) -> Sequence[Remote]:
        """Those of role node."""
        return self._nodes.get(cluster_uid, ())

    def _of(self, opened: Opened) -> dict[str, list[Remote]]:
        return self._nodes if opened.role == ROLE_NODE else self._clusters

    def opened(self, opened: Opened) -> Remote:
        """The new tunnel, or the one that is known by its session: `closed` takes out one of each."""
        known = self._sessions.get(opened.session_id)
        if known is not None:
            return known
        remote = self._sessions[opened.session_id] = Remote(opened)
        self._of(opened).setdefault(opened.cluster_uid, []).append(remote)
        if opened.is_eligible:
            self._serving.setdefault(opened.cluster_uid, []).append(remote)
        return remote

    def draining(self, session_id: str) -> None:
        if (remote := self._sessions.get(session_id)) is not None:
            remote.is_draining = True

    def closed(self, session_id: str) -> Remote | None:
        """The tunnel that has ended; None for an unknown one."""
        remote = self._sessions.pop(session_id, None)
        if remote is None:
            return None
        remote.is_open = False
        uid, role = remote.opened.cluster_uid, self._of(remote.opened)
        for books in (role, self._serving) if remote.opened.is_eligible else (role,):
            books[uid].remove(remote)
            if not books[uid]:
                del books[uid]
        if role is self._clusters:
            self._lost.note(uid, (self._now(), self._wall()))
        elif remote.opened.is_eligible:
            self._fallback_lost.note(uid, self._now())
        return remote

    def gone(self, worker: int) -> list[Remote]:
        """A worker has ended; the tunnels that ended with it."""
        ended = [session for session, remote in self._sessions.items() if remote.opened.worker == worker]
        return [remote for session in ended if (remote := self.closed(session)) is not None]

    def lost_at(self, cluster_uid: str) -> float | None:
        """When the cluster last lost a tunnel of another worker that served; one that drains counts as lost now, and so
        does one whose hop told of its end before the main process does."""
        if any(remote.is_draining or not remote.is_open for remote in self.serving(cluster_uid)):
            return self._now()
        lost, fallback = self._lost.get(cluster_uid), self._fallback_lost.get(cluster_uid)
        return max((at for at in (lost and lost[0], fallback) if at is not None), default=None)

    def lost_when(self, cluster_uid: str) -> datetime.datetime | None:
        """When, for people, it last lost one of role cluster."""
        lost = self._lost.get(cluster_uid)
        return None if lost is None else lost[1]

    def forget(self, cluster_uid: str) -> None:
        """The cluster was deleted: nothing was lost."""
        self._lost.forget(cluster_uid)
        self._fallback_lost.forget(cluster_uid)


def loses(own: Tunnel, worker: int, other: Opened) -> bool:
    """Whether `own`, a tunnel of `worker`, is superseded by another worker's: the higher epoch wins (P7); equal ones,
    which no honest agent has, are decided by the worker's number. One that drains keeps the streams it has."""
    if own.link.is_draining or not _is_same_instance(own, other):
        return False
    return (own.epoch, -worker) < (other.epoch, -other.worker)


def replaces(own: Tunnel, other: Opened) -> bool:
    """Whether another worker's is a later session of the same agent."""
    return _is_same_instance(own, other) and own.epoch < other.epoch


def _is_same_instance(own: Tunnel, other: Opened) -> bool:
    mine = own.identity
    return (mine.cluster_uid, mine.role, mine.node, own.instance) == (
        other.cluster_uid,
        other.role,
        other.node,
        other.instance,
    )
