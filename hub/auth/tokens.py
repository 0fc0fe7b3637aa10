"""User tokens: the record, the index that the hot path asks, and the writes. Secrets are kept as SHA-256 only."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from hub import audit
from hub.audit import Audit
from hub.auth import bearer
from hub.clock import Clock
from hub.store.interface import Store
from hub.store.model import Document, Event, Key, Resource, RevisionConflict

logger = logging.getLogger(__name__)

KIND: Final = "token"
LINEAGE_MAX: Final = 500
"""Tokens through which another one may have come to be: who makes each with the one before has records grow for ever.
None is left out beyond it: by as many a thief would take his out of the lineage of the stolen one."""
_CLOSED: Final[Document] = {"isRevokedWithDescendants": True}
"""In the place of a token while what was made with it is looked for and revoked."""


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token without its secret. Times are seconds since the epoch; `expires_at` None never expires."""

    id: str
    name: str
    user: str
    groups: tuple[str, ...]
    digest: bytes = dataclasses.field(repr=False)
    created_at: float
    expires_at: float | None
    created_by: str
    cluster_uids: frozenset[str] | None
    lineage: tuple[str, ...] = ()
    """Ids of the tokens through which it came to be, the one that made it last. The whole way, since one in between may
    be gone when the first turns out to be stolen. Records of older versions have none."""

    @property
    def created_with(self) -> str:
        """Id of the token that made it; empty where none is known."""
        return self.lineage[-1] if self.lineage else ""

    @property
    def lineage_below(self) -> tuple[str, ...]:
        """The lineage of what is made with this token."""
        return (*self.lineage, self.id)

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def spec(self) -> Document:
        return {
            "name": self.name,
            "user": self.user,
            "groups": list(self.groups),
            "sha256": self.digest.hex(),
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "createdBy": self.created_by,
            "clusterUids": None if self.cluster_uids is None else sorted(self.cluster_uids),
            "lineage": list(self.lineage),
        }

    @staticmethod
    def of(resource: Resource) -> TokenRecord:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec = resource.spec
        uids = spec["clusterUids"]
        return TokenRecord(
            id=resource.key.name,
            name=spec["name"],
            user=spec["user"],
            groups=tuple(spec["groups"]),
            digest=bytes.fromhex(spec["sha256"]),
            created_at=float(spec["createdAt"]),
            expires_at=None if spec["expiresAt"] is None else float(spec["expiresAt"]),
            created_by=spec["createdBy"],
            cluster_uids=None if uids is None else compact(uids),
            lineage=tuple(map(sys.intern, spec.get("lineage", ()))),
        )


def compact(uids: Iterable[str]) -> frozenset[str]:
    """Thousands may be in many tokens: the texts are shared, and the copy of a set takes half the room of the set that
    was made of them one by one."""
    return frozenset(set(map(sys.intern, uids)))


def tell(
    event: Audit, record: TokenRecord, clusters: list[str] | None, *, by: str, by_token: str = "", peer: str = ""
) -> None:
    """Write an audit event of a token. `clusters`: names of those that it is limited to."""
    audit.record(
        event,
        token_id=record.id,
        user=record.user,
        groups=list(record.groups),
        clusters=clusters,
        by=by,
        by_token=by_token,
        peer=peer,
    )


class TokenIndex:
    """Every user token by id. `on_gone` hears the ids of tokens that were there and are no more (revoked, or their
    record cannot be read now), to cut what runs on them: without a record not even its expiry would end it."""

    kind: str = KIND

    def __init__(self, on_gone: Callable[[str], None] = lambda token_id: None) -> None:
        self._records: dict[str, TokenRecord] = {}
        self._closed: set[str] = set()
        self.on_gone = on_gone

    def get(self, token_id: str) -> TokenRecord | None:
        return self._records.get(token_id)

    def __iter__(self) -> Iterator[TokenRecord]:
        return iter(tuple(self._records.values()))

    @property
    def closed(self) -> frozenset[str]:
        """Ids of those that are being revoked with their descendants, or were when a crash came between."""
        return frozenset(self._closed)

    def is_closed(self, record: TokenRecord) -> bool:
        """Whether it is being revoked, by itself or with one through which it came to be, and makes no others: a thief
        would make them faster than they are found."""
        return bool(self._closed) and not self._closed.isdisjoint(record.lineage_below)

    def reset(self, resources: Iterable[Resource]) -> None:
        before = set(self._records)
        self._records.clear()
        self._closed.clear()
        for resource in resources:
            self._load(resource)
        for token_id in before - set(self._records):
            self.on_gone(token_id)

    def apply(self, event: Event) -> None:
        token_id = event.resource.key.name
        was_there = token_id in self._records
        if event.is_deleted:
            self._records.pop(token_id, None)
            self._closed.discard(token_id)
        else:
            self._load(event.resource)
        if was_there and token_id not in self._records:
            self.on_gone(token_id)

    def _load(self, resource: Resource) -> None:
        if resource.spec == _CLOSED:
            self._records.pop(resource.key.name, None)
            self._closed.add(resource.key.name)
            return
        try:
            self._records[resource.key.name] = TokenRecord.of(resource)
        except (KeyError, TypeError, ValueError):
            self._records.pop(resource.key.name, None)
            logger.exception("token record unreadable", extra={"token_id": resource.key.name})


class Tokens:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self,
        *,
        name: str,
        user: str,
        groups: tuple[str, ...] = (),
        lifetime_s: float | None,
        created_by: str,
        cluster_uids: frozenset[str] | None = None,
        lineage: tuple[str, ...] = (),
    ) -> tuple[TokenRecord, bearer.Minted, int]:
        """A new token: its record, its only text, and the store revision of the write. The caller has checked names and
        rights."""
        now = self._clock()
        minted = bearer.mint(bearer.USER_PREFIX)
        record = TokenRecord(
            id=minted.id,
            name=name,
            user=user,
            groups=groups,
            digest=minted.digest,
            created_at=now,
            expires_at=None if lifetime_s is None else now + lifetime_s,
            created_by=created_by,
            cluster_uids=cluster_uids,
            lineage=lineage,
        )
        stored = await self._store.put(Resource(Key(KIND, "", minted.id), record.spec()))
        return record, minted, stored.revision

    async def revoke(self, token_id: str) -> int | None:
        """The revision of the deletion, None if there was no such token."""
        return await self._store.delete(Key(KIND, "", token_id))

    async def close(self, token_id: str) -> int:
        """From this revision on the token, if it still exists, is refused, and those that were made with it make no
        others. `revoke` ends that."""
        at = Key(KIND, "", token_id)
        while True:
            found = await self._store.get(at)
            closed = Resource(at, _CLOSED) if found is None else dataclasses.replace(found, spec=_CLOSED)
            try:
                return (await self._store.put(closed)).revision
            except RevisionConflict:
                continue
