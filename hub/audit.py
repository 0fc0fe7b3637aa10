"""Audit events: what an operator must be able to find again, as log records with `audit: true` and a closed set of
names. The audit log of a later issue takes them from here; until then they are lines of the hub's log.

No secret is ever a field: tokens and keys appear by their ids. What a peer can cause as often as it likes is written
a few times for each subject, then counted: nobody fills a disk, or hides one event among a million.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable
from typing import Final

from proto.window import Bucket

_log = logging.getLogger("riata.audit")
_log.setLevel(logging.INFO)  # whatever the rest of the log is set to


class Audit(enum.StrEnum):
    """Every audit event."""

    JOIN_TOKEN_MADE = "join-token-made"  # noqa: S105 a name
    """A join token was made for a cluster."""
    JOIN_TOKEN_REVOKED = "join-token-revoked"  # noqa: S105 a name
    """A join token was taken back; `was_used`: an agent has joined with it, and stays."""
    JOIN_TOKEN_REUSED = "join-token-reused"  # noqa: S105 a name
    """A join token that had been used was shown again, with another key: somebody has a copy of it."""
    MANIFEST_FETCHED = "manifest-fetched"
    """The manifest of a cluster was fetched with a join token."""
    AGENT_JOINED = "agent-joined"
    """An agent enrolled its key with a join token."""
    AGENT_KEY_REPLACED = "agent-key-replaced"
    """An agent replaced its key over a session that the old one had proven."""
    AGENT_KEY_ROTATION_ASKED = "agent-key-rotation-asked"
    """An operator had the hub ask an agent to replace its key; `agent-key-replaced` says that it did."""
    AGENT_REVOKED = "agent-revoked"
    """An agent was revoked: an enrolled key, or the agent of a node."""
    AGENT_READMITTED = "agent-readmitted"
    """The agent of a revoked node was let in again."""
    AGENT_TOKEN_MADE = "agent-token-made"  # noqa: S105 a name
    """A token was made with which agents of a cluster connect."""
    AGENT_TOKEN_REVOKED = "agent-token-revoked"  # noqa: S105 a name
    """An agent token was revoked."""
    TOKEN_MADE = "token-made"  # noqa: S105 a name
    """A user token was made: `user` is whose it is, `by` who made it, `by_token` the id of the token with which;
    `clusters` null is every cluster."""
    TOKEN_REVOKED = "token-revoked"  # noqa: S105 a name
    """A user token was revoked: `user` is whose it was, `by` who revoked it, with the token `by_token`; `hub:upkeep`:
    the hub, at the end of a revocation with descendants that was cut short."""
    GRANT_MADE = "grant-made"
    """A grant was made, or the last one of hub administration put back: `subject` got the role, `user` gave it."""
    GRANT_REMOVED = "grant-removed"
    """A grant was taken back."""
    CLUSTER_MADE = "cluster-made"
    """A cluster was made known."""
    CLUSTER_DELETED = "cluster-deleted"
    """A cluster was deleted: its keys, tokens, grants and sessions ended."""
    CLEAN_UP_DONE = "clean-up-done"
    """What riata had made in a deleted cluster was removed, in the name of whoever deleted it."""
    CLEAN_UP_PENDING = "clean-up-pending"
    """It could not be removed: somebody has to do it by hand."""
    CLEAN_UP_FORGOTTEN = "clean-up-forgotten"
    """Somebody took such a record off the list."""
    REVOKED_KEY_USED = "revoked-key-used"
    """A revoked agent key was used to sign; the signature was right."""
    REVOKED_TOKEN_USED = "revoked-token-used"  # noqa: S105 a name
    """The join token of an agent that was revoked was shown again, with another key: most often by that agent, which
    has made a new one and waits for a new join token."""
    ISSUER_REGISTERED = "issuer-registered"
    """A cluster agent registered another token issuer, or other signing keys of it, or said its own again after another
    agent had said something else: they prove node agents."""
    PODS_REGISTERED = "pods-registered"
    """A cluster agent registered on which nodes pods of node agents run."""
    SUPPRESSED = "suppressed"
    """So many more events of one name and subject were counted and not written."""
    CA_INTRODUCED = "ca-introduced"
    """A new CA of the hub was made; agents learn it."""
    CA_SWITCHED = "ca-switched"
    """The new CA signs the hub's certificate."""
    CA_RETIRED = "ca-retired"
    """The old CA is accepted no longer."""
    CA_TAKEN_BACK = "ca-taken-back"
    """A new CA was taken back before it signed."""


_WARNINGS: Final = frozenset(
    {Audit.JOIN_TOKEN_REUSED, Audit.REVOKED_KEY_USED, Audit.REVOKED_TOKEN_USED, Audit.SUPPRESSED}
)
_FROM_PEERS: Final = frozenset(
    {
        Audit.JOIN_TOKEN_REUSED,
        Audit.AGENT_KEY_REPLACED,
        Audit.REVOKED_KEY_USED,
        Audit.REVOKED_TOKEN_USED,
        Audit.ISSUER_REGISTERED,
        Audit.PODS_REGISTERED,
    }
)
"""Those that a peer causes by itself. What an operator does is always written."""
BURST: Final = 10.0
PER_S: Final = 0.1
SUBJECTS_MAX: Final = 10_000


class Floods:
    """Who causes how much. A subject is an event's name with the agent concerned."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: dict[tuple[Audit, object], Bucket] = {}
        self._suppressed: dict[tuple[Audit, object], int] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def lets(self, event: Audit, subject: object) -> bool:
        """Whether one more is written; else it is counted."""
        now, which = self._now(), (event, subject)
        bucket = self._buckets.get(which)
        if bucket is None:
            self._prune(now)
            bucket = self._buckets[which] = Bucket(BURST, PER_S)
        if bucket.is_empty(now):
            self._suppressed[which] = self._suppressed.get(which, 0) + 1
            return False
        bucket.spend(now)
        return True

    def take_suppressed(self) -> list[tuple[Audit, object, int]]:
        """What was counted since the last call."""
        counted, self._suppressed = self._suppressed, {}
        return [(event, subject, count) for (event, subject), count in counted.items()]

    def _prune(self, now: float) -> None:
        """Full buckets are as good as none; if none is full, the oldest one goes."""
        if len(self._buckets) < SUBJECTS_MAX:
            return
        full = [which for which, bucket in self._buckets.items() if bucket.is_full(now)]
        for which in full or [next(iter(self._buckets))]:
            del self._buckets[which]


_floods = Floods()


def record(event: Audit, *, floods: Floods = _floods, **fields: object) -> None:
    """Write one audit event. `fields` are plain values; `agent` is the subject that a flood is counted for."""
    if event in _FROM_PEERS and not floods.lets(event, fields.get("agent")):
        return
    _log.log(logging.WARNING if event in _WARNINGS else logging.INFO, event.value, extra={"audit": True, **fields})


def tell_suppressed(floods: Floods = _floods) -> None:
    """Write how many events were counted only. Call it now and then."""
    for event, subject, count in floods.take_suppressed():
        record(Audit.SUPPRESSED, suppressed=event.value, agent=subject, count=count)
