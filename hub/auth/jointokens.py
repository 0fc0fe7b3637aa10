"""Join tokens: 15 minutes, single use, bound to a cluster's uid, kept as a hash (design D6, facts/security.md H1).

The record never changes. That a token was used is not written into it: the agent key that it enrols is stored under
the token's own id, so *making that record* is the use, one compare-and-swap decides who wins, and no crash can lie
between "used" and "enrolled".
"""

from __future__ import annotations

import dataclasses
from typing import Final

from hub.auth import bearer
from hub.auth.recordindex import RecordIndex
from hub.clock import Clock
from hub.store.interface import Store
from hub.store.model import Document, Key, Resource

KIND: Final = "join-token"
LIFETIME_MAX_S: Final = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token without its secret. Times are seconds since the epoch."""

    id: str
    cluster_uid: str
    digest: bytes = dataclasses.field(repr=False)
    created_at: float
    expires_at: float
    created_by: str
    form: Document = dataclasses.field(default_factory=dict)
    """What the manifest that is fetched with it looks like; empty: as it is by default."""

    def is_expired(self, now: float) -> bool:
        return now >= self.expires_at

    def spec(self) -> Document:
        return {
            "sha256": self.digest.hex(),
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "createdBy": self.created_by,
            "form": self.form,
        }

    @staticmethod
    def of(resource: Resource) -> JoinToken:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec = resource.spec
        return JoinToken(
            id=resource.key.name,
            cluster_uid=resource.key.cluster,
            digest=bytes.fromhex(spec["sha256"]),
            created_at=float(spec["createdAt"]),
            expires_at=float(spec["expiresAt"]),
            created_by=spec["createdBy"],
            form=dict(spec.get("form", {})),
        )


class JoinTokenIndex(RecordIndex[JoinToken]):
    """Every join token by id."""

    def __init__(self) -> None:
        super().__init__(KIND, JoinToken.of)

    def presented(self, text: bytes) -> JoinToken | None:
        """The record of a token whose secret is right; it may be expired, or used. Constant time as to the secret."""
        shown = bearer.parse(text)
        if shown is None or shown.prefix != bearer.JOIN_PREFIX:
            return None
        token = self.get(shown.id)
        return token if bearer.matches(shown, token.digest if token else None) else None


class JoinTokens:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self, *, cluster_uid: str, lifetime_s: float, created_by: str, form: Document | None = None
    ) -> tuple[JoinToken, bearer.Minted, int]:
        """A new join token: its record, its only text, and the store revision of the write."""
        now = self._clock()
        minted = bearer.mint(bearer.JOIN_PREFIX)
        expires_at = now + min(lifetime_s, LIFETIME_MAX_S)
        record = JoinToken(minted.id, cluster_uid, minted.digest, now, expires_at, created_by, form or {})
        stored = await self._store.put(Resource(Key(KIND, cluster_uid, minted.id), record.spec()))
        return record, minted, stored.revision

    async def revoke(self, cluster_uid: str, token_id: str) -> int | None:
        """The revision of the deletion, None if the cluster has no such token."""
        return await self._store.delete(Key(KIND, cluster_uid, token_id))
