"""Enrolled agents: the public keys that the hub knows. Private keys never leave their agents (facts/security.md G5).

An agent is known by the id of the join token that enrolled it. A revoked one stays as a record without rights, so that
no replay of its token or key brings it back. A token that is taken back before its use leaves such a record too,
without a key: whoever writes it first, the join or the revocation, has won.
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
GRACE_MAX_S: Final = 110.0
"""No key that is replaced lives on for longer (hub.auth.rotation), with a minute for clocks that are set."""


@dataclasses.dataclass(frozen=True, slots=True)
class PublicKey:
    """One Ed25519 public key of an agent, and when it counts. `until` None: no end is set."""

    value: bytes
    since: float
    until: float | None = None

    def is_valid(self, now: float) -> bool:
        """An end that is further away than a key's last minute is long was set by a clock that has been set back."""
        return self.until is None or self.until - GRACE_MAX_S < now < self.until

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

    @property
    def order(self) -> tuple[bool, int]:
        """Of two agents with one key the lesser is the older: one that has replaced its key, or was written first."""
        return len(self.keys) == 1, self.revision

    @property
    def is_barred(self) -> bool:
        """Nobody ever joined with this token, and nobody will: it was taken back."""
        return not self.keys

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
        if not keys and spec["revokedAt"] is None:
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
        self._by_key: dict[tuple[str, bytes], set[str]] = {}

    def by_key(self, cluster_uid: str, key: bytes) -> AgentKey | None:
        """The agent of a cluster that has or had this key, revoked ones included. If a crash in the middle of two joins
        left two, the revoked one counts, so that no key outlives its revocation; else the older."""
        found = self.all_by_key(cluster_uid, key)
        return min(found, key=lambda record: (not record.is_revoked, record.order), default=None)

    def all_by_key(self, cluster_uid: str, key: bytes) -> list[AgentKey]:
        ids = self._by_key.get((cluster_uid, key), ())
        return [record for agent_id in ids if (record := self.get(agent_id)) is not None]

    def _load(self, resource: Resource) -> None:
        super()._load(resource)
        record = self._records.get(resource.key.name)
        if record is not None:
            for key in record.keys:
                self._by_key.setdefault((record.cluster_uid, key.value), set()).add(record.id)

    def _changed(self, before: AgentKey, after: AgentKey | None) -> None:
        kept = () if after is None else {key.value for key in after.keys}
        for key in before.keys:
            at = before.cluster_uid, key.value
            if key.value not in kept and at in self._by_key:
                self._by_key[at].discard(before.id)
                if not self._by_key[at]:
                    del self._by_key[at]
        if after is None or (after.is_revoked and not before.is_revoked):
            self.on_gone(before.id)
        elif not after.is_barred and after.current.value != before.current.value:
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
        return await self._claim(AgentKey(agent_id, cluster_uid, role, (PublicKey(key, now),), now, joined_from))

    async def bar(self, cluster_uid: str, token_id: str, *, by: str) -> tuple[AgentKey, bool]:
        """Take back a join token's use: no agent can enrol under its id any more, also not one whose join is on its way
        to the store. The record, and whether this call barred it: another one is of an agent that was faster."""
        now = self._clock()
        return await self._claim(AgentKey(token_id, cluster_uid, "", (), now, "", revoked_at=now, revoked_by=by))

    async def _claim(self, draft: AgentKey) -> tuple[AgentKey, bool]:
        """The record under an id, and whether it is this one."""
        at = Key(KIND, draft.cluster_uid, draft.id)
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
