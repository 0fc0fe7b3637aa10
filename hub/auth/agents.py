"""Agent credentials. Today a reusable agent token of one cluster, kept as a hash; enrolment brings signatures (P5, P8).

`AgentAuthenticator` chooses a `CredentialScheme` by the name in the agent's AUTH message. The cluster comes from the
credential alone; nothing else that an agent says about itself has weight.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from hub.auth import bearer
from hub.clock import Clock
from hub.errors import Unauthenticated
from hub.store.interface import Store
from hub.store.model import Document, Event, Key, Resource
from proto.messages import AgentAuth

logger = logging.getLogger(__name__)

KIND: Final = "agent-token"
ROLE_CLUSTER: Final = "cluster"


class ClusterLookup(Protocol):
    """The live cluster of a uid (hub.clusters.records.ClusterIndex)."""

    def name_of(self, uid: str) -> str | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who an agent is, proven by its credential."""

    cluster_uid: str
    cluster_name: str
    credential_id: str
    role: str


@dataclasses.dataclass(frozen=True, slots=True)
class AgentToken:
    """An agent token without its secret. Times are seconds since the epoch; `expires_at` None never expires."""

    id: str
    cluster_uid: str
    name: str
    digest: bytes = dataclasses.field(repr=False)
    created_at: float
    expires_at: float | None
    created_by: str

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def spec(self) -> Document:
        return {
            "name": self.name,
            "sha256": self.digest.hex(),
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "createdBy": self.created_by,
        }

    @staticmethod
    def of(resource: Resource) -> AgentToken:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec = resource.spec
        return AgentToken(
            id=resource.key.name,
            cluster_uid=resource.key.cluster,
            name=spec["name"],
            digest=bytes.fromhex(spec["sha256"]),
            created_at=float(spec["createdAt"]),
            expires_at=None if spec["expiresAt"] is None else float(spec["expiresAt"]),
            created_by=spec["createdBy"],
        )


class AgentTokenIndex:
    """Every agent token by id. `on_gone` hears the ids of tokens that were revoked, to cut their sessions."""

    kind: str = KIND

    def __init__(self, on_gone: Callable[[str], None] = lambda credential_id: None) -> None:
        self._records: dict[str, AgentToken] = {}
        self._by_cluster: dict[str, dict[str, AgentToken]] = {}
        self.on_gone = on_gone

    def get(self, token_id: str) -> AgentToken | None:
        return self._records.get(token_id)

    def __iter__(self) -> Iterator[AgentToken]:
        return iter(tuple(self._records.values()))

    def of_cluster(self, cluster_uid: str) -> list[AgentToken]:
        return list(self._by_cluster.get(cluster_uid, {}).values())

    def reset(self, resources: Iterable[Resource]) -> None:
        before = set(self._records)
        self._records.clear()
        self._by_cluster.clear()
        for resource in resources:
            self._load(resource)
        for token_id in before - set(self._records):
            self.on_gone(token_id)

    def apply(self, event: Event) -> None:
        token_id = event.resource.key.name
        if not event.is_deleted:
            self._load(event.resource)
        elif self._forget(token_id):
            self.on_gone(token_id)

    def _forget(self, token_id: str) -> bool:
        record = self._records.pop(token_id, None)
        if record is None:
            return False
        tokens = self._by_cluster[record.cluster_uid]
        del tokens[token_id]
        if not tokens:
            del self._by_cluster[record.cluster_uid]
        return True

    def _load(self, resource: Resource) -> None:
        self._forget(resource.key.name)
        try:
            record = AgentToken.of(resource)
            self._records[record.id] = record
            self._by_cluster.setdefault(record.cluster_uid, {})[record.id] = record
        except (KeyError, TypeError, ValueError):
            logger.exception("agent token record unreadable", extra={"credential_id": resource.key.name})


class CredentialScheme(Protocol):
    """One way to prove an agent's identity."""

    def verify(self, auth: AgentAuth) -> AgentIdentity | None:
        """None for anything that does not prove an identity. Must not raise, must not block."""
        ...


class BearerScheme:
    """`bearer`: the credential's value is an agent token."""

    def __init__(self, tokens: AgentTokenIndex, clusters: ClusterLookup, clock: Clock) -> None:
        self._tokens = tokens
        self._clusters = clusters
        self._clock = clock

    def verify(self, auth: AgentAuth) -> AgentIdentity | None:
        presented = bearer.parse(auth.credential.value)
        if presented is None or presented.prefix != bearer.AGENT_PREFIX:
            return None
        record = self._tokens.get(presented.id)
        if not bearer.matches(presented, record.digest if record else None) or record is None:
            return None
        name = self._clusters.name_of(record.cluster_uid)
        if name is None or record.is_expired(self._clock()) or auth.role != ROLE_CLUSTER:
            return None
        return AgentIdentity(record.cluster_uid, name, record.id, ROLE_CLUSTER)


class AgentAuthenticator:
    """Dispatches to the scheme that an agent's credential names."""

    def __init__(self, schemes: Mapping[str, CredentialScheme]) -> None:
        self._schemes = dict(schemes)

    def authenticate(self, auth: AgentAuth) -> AgentIdentity:
        """Raises Unauthenticated, with one text whatever was wrong."""
        scheme = self._schemes.get(auth.credential.scheme)
        identity = scheme.verify(auth) if scheme else None
        if identity is None:
            raise Unauthenticated
        return identity


class AgentTokens:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self, *, cluster_uid: str, name: str, lifetime_s: float | None, created_by: str
    ) -> tuple[AgentToken, bearer.Minted, int]:
        """A new agent token: its record, its only text, and the store revision of the write."""
        now = self._clock()
        minted = bearer.mint(bearer.AGENT_PREFIX)
        record = AgentToken(
            id=minted.id,
            cluster_uid=cluster_uid,
            name=name,
            digest=minted.digest,
            created_at=now,
            expires_at=None if lifetime_s is None else now + lifetime_s,
            created_by=created_by,
        )
        stored = await self._store.put(Resource(Key(KIND, cluster_uid, minted.id), record.spec()))
        return record, minted, stored.revision

    async def revoke(self, cluster_uid: str, token_id: str) -> int | None:
        """The revision of the deletion, None if the cluster has no such token."""
        return await self._store.delete(Key(KIND, cluster_uid, token_id))
