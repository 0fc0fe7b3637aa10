"""What is left to do after a cluster was deleted: riata's objects in it (docs/operate/join.md §6).

A record is written before the cluster's own record goes, under the cluster's uid, so that no crash can lose it:

    (none) -> running -> (none)        everything is removed
                      -> pending       it could not be: the reason, and a command for a person
    (none) -> pending                  no agent was connected
    pending -> (none)                  somebody forgot it

A record whose cluster still exists belongs to a deletion that was never done, and counts for nothing.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

from hub import audit
from hub.audit import Audit
from hub.auth.recordindex import RecordIndex
from hub.clock import Clock
from hub.clusters.manifest import OWNER_LABEL
from hub.clusters.owned import BY_HAND
from hub.clusters.removal import NODE_LABEL
from hub.store.interface import Store
from hub.store.model import Key, Resource, RevisionConflict, StoreError
from proto.aio.tasks import TaskGroup

KIND: Final = "clean-up"
LIMIT_S: Final = 0.75
"""How long after the call that deletes the cluster one may run. The session that it runs over ends with it, within the
second in which every session of a deleted cluster ends."""
LATE_S: Final = 5.0
"""A record that runs for longer lost the process that worked on it."""
ABANDONED_S: Final = 3600.0
"""A record whose cluster lives is of a deletion that was given up: none takes so long. It may be on its way until then,
behind a disk that stands still; what is to be done would be forgotten with the record."""

NOT_CONNECTED: Final = "no agent of the cluster was connected when it was deleted"
INTERRUPTED: Final = "the hub was stopped while it removed them"


class State(enum.StrEnum):
    """Where a clean-up is."""

    RUNNING = "running"
    PENDING = "pending"


@dataclasses.dataclass(frozen=True, slots=True)
class CleanUp:
    """One deleted cluster whose objects may still be there. Times are seconds since the epoch."""

    id: str
    """The uid of the deleted cluster."""
    cluster: str
    deleted_at: float
    deleted_by: str
    groups: tuple[str, ...]
    """Of who deleted it: what is removed is removed in this name."""
    state: State
    since: float
    reason: str = ""
    instance: str = ""
    """The agent instance that it runs over, in hexadecimal."""
    revision: int = 0

    @property
    def cluster_uid(self) -> str:
        return self.id

    @property
    def command(self) -> str:
        """What a person runs in that cluster instead."""
        return (
            f"kubectl delete {BY_HAND} --all-namespaces -l {OWNER_LABEL}={self.id};"
            f" kubectl label nodes -l {NODE_LABEL} {NODE_LABEL}-"
        )

    def resource(self) -> Resource:
        spec = {
            "cluster": self.cluster,
            "deletedAt": self.deleted_at,
            "deletedBy": self.deleted_by,
            "groups": list(self.groups),
        }
        status = {"state": self.state.value, "since": self.since, "reason": self.reason, "instance": self.instance}
        return Resource(Key(KIND, "", self.id), spec, status, revision=self.revision)

    @staticmethod
    def of(resource: Resource) -> CleanUp:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec, status = resource.spec, resource.status
        return CleanUp(
            id=resource.key.name,
            cluster=spec["cluster"],
            deleted_at=float(spec["deletedAt"]),
            deleted_by=spec["deletedBy"],
            groups=tuple(spec["groups"]),
            state=State(status["state"]),
            since=float(status["since"]),
            reason=status["reason"],
            instance=status["instance"],
            revision=resource.revision,
        )


class CleanUpIndex(RecordIndex[CleanUp]):
    """Every clean-up by the uid of its cluster."""

    def __init__(self) -> None:
        super().__init__(KIND, CleanUp.of)


class CleanUps:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def begin(self, *, uid: str, cluster: str, user: str, groups: Sequence[str], instance: str) -> CleanUp:
        """The record of a cluster that is about to be deleted; `instance` empty: nobody is there to do it.

        One that an unfinished deletion left is replaced; of two that begin within LIMIT_S the first one's holds.
        Raises RevisionConflict if that is gone already.
        """
        now = self._clock()
        found = await self._store.get(Key(KIND, "", uid))
        if (other := _begun(found, now)) is not None:
            return other
        state = State.RUNNING if instance else State.PENDING
        reason = "" if instance else NOT_CONNECTED
        draft = CleanUp(uid, cluster, now, user, tuple(groups), state, now, reason, instance)
        try:
            stored = await self._store.put(
                dataclasses.replace(draft, revision=found.revision if found else 0).resource()
            )
        except RevisionConflict:
            found = await self._store.get(Key(KIND, "", uid))
            if found is None:
                raise
            return CleanUp.of(found)
        return dataclasses.replace(draft, revision=stored.revision)

    def left_s(self, clean_up: CleanUp) -> float:
        """How long it may still run. A clock that was set meanwhile makes it no longer than LIMIT_S."""
        return min(max(clean_up.deleted_at + LIMIT_S - self._clock(), 0.0), LIMIT_S)

    async def pending(self, clean_up: CleanUp, reason: str) -> None:
        """It was not done, a person has to. Nothing, if somebody else has decided meanwhile. Raises StoreError."""
        await _unbroken(self._pending(clean_up, reason))

    async def _pending(self, clean_up: CleanUp, reason: str) -> None:
        changed = dataclasses.replace(clean_up, state=State.PENDING, since=self._clock(), reason=reason)
        try:
            await self._store.put(changed.resource())
        except RevisionConflict:
            return
        _tell(Audit.CLEAN_UP_PENDING, clean_up, reason=reason)

    async def done(self, clean_up: CleanUp, removed: Sequence[str], kept: Sequence[str]) -> None:
        """Everything is removed: nothing is left but the event. Raises StoreError."""
        await _unbroken(self._done(clean_up, removed, kept))

    async def _done(self, clean_up: CleanUp, removed: Sequence[str], kept: Sequence[str]) -> None:
        await self.forget(clean_up.id)
        _tell(Audit.CLEAN_UP_DONE, clean_up, removed=removed, kept=kept)

    async def forget(self, uid: str) -> int | None:
        """The revision of the removal, None if there was none."""
        return await self._store.delete(Key(KIND, "", uid))

    async def recover(self, live: Iterable[str]) -> None:
        """When a hub starts: `live` are the uids of the clusters that exist. What ran is interrupted, and a record of
        a cluster that exists is of no deletion."""
        uids = set(live)
        for item in (await self._store.list(KIND)).items:
            try:
                found = CleanUp.of(item)
            except (KeyError, TypeError, ValueError):
                continue  # the index tells
            await self._settle(found, is_live=found.id in uids)

    async def expire(self, clean_ups: Iterable[CleanUp], live: Iterable[str]) -> None:
        """Settle those whose process is gone. Call it every few seconds."""
        now = self._clock()
        late = [each for each in clean_ups if now - each.since >= LATE_S]
        if not late:
            return
        uids = set(live)
        for each in late:
            is_live = each.id in uids
            if not is_live or now - each.since >= ABANDONED_S:
                await self._settle(each, is_live=is_live)

    async def _settle(self, found: CleanUp, *, is_live: bool) -> None:
        if is_live:
            try:
                await self._store.delete(Key(KIND, "", found.id), revision=found.revision)
            except RevisionConflict:
                return
        elif found.state is State.RUNNING:
            await self.pending(found, INTERRUPTED)


def _tell(event: Audit, clean_up: CleanUp, **more: Any) -> None:
    audit.record(event, cluster=clean_up.cluster, cluster_uid=clean_up.id, user=clean_up.deleted_by, **more)


def _begun(found: Resource | None, now: float) -> CleanUp | None:
    """The clean-up that runs under this record; None for a record that an unfinished deletion left."""
    if found is None:
        return None
    try:
        known = CleanUp.of(found)
    except (KeyError, TypeError, ValueError):
        return None
    is_fresh = 0 <= now - known.since < LIMIT_S
    return known if known.state is State.RUNNING and is_fresh else None


async def _unbroken(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, also when whoever waits for it is cancelled, as the hub stops: a write that the store has
    accepted is done all the same, and its event has to follow. Raises StoreError as `work` does."""
    group = TaskGroup("end of a clean-up")
    try:
        await group.unbroken(work, (StoreError,), name="end")
    finally:
        await group.wait()
