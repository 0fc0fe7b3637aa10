"""Enrolled agents: the public keys that the hub knows. Private keys never leave their agents (facts/security.md G5).

An agent is known by the id of the join token that enrolled it. A revoked one stays as a record without rights, so that
no replay of its token or key brings it back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from hub.auth.recordindex import RecordIndex
from hub.clock import Clock
from hub.store.interface import Store
from hub.store.model import Document, Key, Resource, RevisionConflict

KIND: Final = "agent-key"


@dataclasses.dataclass(frozen=True, slots=True)
class PublicKey:
    """One Ed25519 public key of an agent, and when it counts. `until` None: no end is set."""

    value: bytes
    since: float
    until: float | None = None

    def is_valid(self, now: float) -> bool:
        return self.until is None or now < self.until

    def document(self) -> Document:
        return {"ed25519": self.value.hex(), "since": self.since, "until": self.until}

    @staticmethod
    def of(document: Any) -> PublicKey:
        until = document["until"]
        value = bytes.fromhex(document["ed25519"])
        return PublicKey(value, float(document["since"]), None if until is None else float(until))


@dataclasses.dataclass(frozen=True, slots=True)
class AgentKey:
    """One enrolled agent. The last key is the current one. Times are seconds since the epoch."""

    id: str
    cluster_uid: str
    role: str
    keys: tuple[PublicKey, ...]
    created_at: float
    joined_from: str
    revoked_at: float | None = None
    revoked_by: str = ""
    revision: int = dataclasses.field(default=0, compare=False)

    @property
    def current(self) -> PublicKey:
        return self.keys[-1]

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None

    def is_valid(self, key: bytes, now: float) -> bool:
        """Whether this key proves this agent now."""
        return not self.is_revoked and any(each.value == key and each.is_valid(now) for each in self.keys)

    def spec(self) -> Document:
        return {
            "role": self.role,
            "keys": [key.document() for key in self.keys],
            "createdAt": self.created_at,
            "joinedFrom": self.joined_from,
            "revokedAt": self.revoked_at,
            "revokedBy": self.revoked_by,
        }

    @staticmethod
    def of(resource: Resource) -> AgentKey:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec = resource.spec
        keys = tuple(PublicKey.of(document) for document in spec["keys"])
        if not keys:
            raise ValueError("an agent has at least one key")
        return AgentKey(
            id=resource.key.name,
            cluster_uid=resource.key.cluster,
            role=spec["role"],
            keys=keys,
            created_at=float(spec["createdAt"]),
            joined_from=spec["joinedFrom"],
            revoked_at=None if spec["revokedAt"] is None else float(spec["revokedAt"]),
            revoked_by=spec["revokedBy"],
            revision=resource.revision,
        )


class AgentKeyIndex(RecordIndex[AgentKey]):
    """Every enrolled agent by id, and by cluster and public key. `on_gone` hears of revoked ones too, `on_rotated` of
    those whose current key is a new one."""

    def __init__(self, on_gone: Callable[[str], None] = lambda agent_id: None) -> None:
        super().__init__(KIND, AgentKey.of, on_gone)
        self.on_rotated: Callable[[str], None] = lambda agent_id: None
        self._by_key: dict[tuple[str, bytes], str] = {}

    def by_key(self, cluster_uid: str, key: bytes) -> AgentKey | None:
        """The agent of a cluster that has or had this key, revoked ones included."""
        agent_id = self._by_key.get((cluster_uid, key))
        return None if agent_id is None else self.get(agent_id)

    def _load(self, resource: Resource) -> None:
        super()._load(resource)
        record = self._records.get(resource.key.name)
        if record is not None:
            self._by_key |= {(record.cluster_uid, key.value): record.id for key in record.keys}

    def _changed(self, before: AgentKey, after: AgentKey | None) -> None:
        kept = () if after is None else {key.value for key in after.keys}
        for key in before.keys:
            if key.value not in kept and self._by_key.get((before.cluster_uid, key.value)) == before.id:
                del self._by_key[before.cluster_uid, key.value]
        if after is None or (after.is_revoked and not before.is_revoked):
            self.on_gone(before.id)
        elif after.current.value != before.current.value:
            self.on_rotated(before.id)


class AgentKeys:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def enrol(
        self, *, agent_id: str, cluster_uid: str, role: str, key: bytes, joined_from: str
    ) -> tuple[AgentKey, bool]:
        """The agent enrolled under this id, and whether this call did it: of any number of calls with one id, one."""
        now = self._clock()
        draft = AgentKey(agent_id, cluster_uid, role, (PublicKey(key, now),), now, joined_from)
        at = Key(KIND, cluster_uid, agent_id)
        while True:
            try:
                return AgentKey.of(await self._store.put(Resource(at, draft.spec()))), True
            except RevisionConflict:
                found = await self._store.get(at)
                if found is not None:
                    return AgentKey.of(found), False

    async def change(
        self, cluster_uid: str, agent_id: str, decide: Callable[[AgentKey], AgentKey | None]
    ) -> AgentKey | None:
        """Replace the record by what `decide` makes of it, compare-and-swap until it holds. `decide` returns None to
        leave it as it is, and may raise. The record as it then is, None if there is none."""
        at = Key(KIND, cluster_uid, agent_id)
        while True:
            found = await self._store.get(at)
            if found is None:
                return None
            before = AgentKey.of(found)
            after = decide(before)
            if after is None:
                return before
            try:
                return AgentKey.of(await self._store.put(dataclasses.replace(found, spec=after.spec())))
            except RevisionConflict:
                continue

    async def revoke(self, cluster_uid: str, agent_id: str, *, by: str) -> AgentKey | None:
        """The revoked record, None if the cluster has no such agent. Revoking twice changes nothing."""
        now = self._clock()

        def decide(record: AgentKey) -> AgentKey | None:
            return None if record.is_revoked else dataclasses.replace(record, revoked_at=now, revoked_by=by)

        return await self.change(cluster_uid, agent_id, decide)

    async def forget(self, cluster_uid: str, agent_id: str) -> int | None:
        """Remove a record: only when nothing can ever show its token or key again."""
        return await self._store.delete(Key(KIND, cluster_uid, agent_id))
