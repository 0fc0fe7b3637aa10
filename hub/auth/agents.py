"""Agent credentials: who an agent is, and the reusable agent token of one cluster, kept as a hash. Enrolled keys are in
hub.auth.enrol.

`AgentAuthenticator` chooses a `CredentialScheme` by the name in the agent's AUTH message. The cluster comes from the
credential alone; nothing else that an agent says about itself has weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from hub.auth import bearer
from hub.auth.recordindex import RecordIndex
from hub.clock import Clock
from hub.errors import Unauthenticated
from hub.store.interface import Store
from hub.store.model import Document, Key, Resource
from proto.errors import Code
from proto.messages import AgentAuth

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
    key: bytes = b""
    """The public key that proved it; empty where the credential is a token."""
    node: str = ""
    """Name of its node, role node."""
    pod: str = ""
    """Uid of its pod, role node."""
    expires_at: float | None = None
    """When the credential ends, seconds since the epoch; None: when it is revoked."""
    subject: str = ""
    """Name of its ServiceAccount, role node."""
    is_fallback: bool = False
    """Role node: requests may take its tunnel when no cluster agent answers (design D5). Whatever is not said or not
    known means that they may not."""
    rests_on: str = ""
    """The registered proof behind a node agent's token (hub.auth.issuers.proof)."""


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


class AgentTokenIndex(RecordIndex[AgentToken]):
    """Every agent token by id. `on_gone` hears the ids of tokens that were revoked, to cut their sessions."""

    def __init__(self, on_gone: Callable[[str], None] = lambda credential_id: None) -> None:
        super().__init__(KIND, AgentToken.of, on_gone)


@dataclasses.dataclass(frozen=True, slots=True)
class Challenge:
    """What the hub told this peer, and from where the peer came: what a proof is checked against."""

    hub_id: str
    nonce: bytes
    peer: str


class CredentialRefused(Unauthenticated):
    """The credential proves nothing. The message is for the agent's log; without one it is the same for all causes."""

    def __init__(self, message: str | None = None, *, code: Code = Code.UNAUTHENTICATED) -> None:
        super().__init__(message or "the agent's credential is not valid for any cluster")
        self.code = code


class CredentialScheme(Protocol):
    """One way to prove an agent's identity."""

    async def verify(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        """Raises CredentialRefused. Nothing may wait between the look at the indexes and the return: the caller takes
        the session into its books in the same turn of the loop, so that a revocation cannot fall in between."""
        ...


class BearerScheme:
    """`bearer`: the credential's value is an agent token."""

    def __init__(self, tokens: AgentTokenIndex, clusters: ClusterLookup, clock: Clock) -> None:
        self._tokens = tokens
        self._clusters = clusters
        self._clock = clock

    async def verify(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        presented = bearer.parse(auth.credential.value)
        if presented is None or presented.prefix != bearer.AGENT_PREFIX:
            raise CredentialRefused
        record = self._tokens.get(presented.id)
        if not bearer.matches(presented, record.digest if record else None) or record is None:
            raise CredentialRefused
        name = self._clusters.name_of(record.cluster_uid)
        if name is None or record.is_expired(self._clock()) or auth.role != ROLE_CLUSTER:
            raise CredentialRefused
        return AgentIdentity(record.cluster_uid, name, record.id, ROLE_CLUSTER)


class AgentAuthenticator:
    """Dispatches to the scheme that an agent's credential names."""

    def __init__(self, schemes: Mapping[str, CredentialScheme]) -> None:
        self._schemes = dict(schemes)

    async def authenticate(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        """Raises CredentialRefused."""
        scheme = self._schemes.get(auth.credential.scheme)
        if scheme is None:
            raise CredentialRefused
        return await scheme.verify(auth, challenge)


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
