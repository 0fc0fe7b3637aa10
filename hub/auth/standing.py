"""Whether what a session rests on still holds now, looked up by state: no edge that was missed lets one live on."""

from __future__ import annotations

import dataclasses
from typing import Final

from hub.auth.agentkeys import AgentKeyIndex
from hub.auth.agents import AgentTokenIndex, ClusterLookup
from hub.auth.nodes import ROLE_NODE, NodeTokens
from hub.auth.rotation import ProvenSession
from hub.clock import Clock
from proto.errors import Code

TOKEN_GRACE_S: Final = 50.0
"""How long a node agent's session outlives its token; with the sweep it ends within 60 s (P12)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Why a session ends now."""

    code: Code
    text: str


_REVOKED: Final = Fault(Code.REVOKED, "the credential or the cluster was revoked")
_REPLACED: Final = Fault(Code.CLOSED, "the key of this session was replaced by a newer one")
_EXPIRED: Final = Fault(Code.UNAUTHENTICATED, "the token of this session has expired and no fresher one came")
_UNVOUCHED: Final = Fault(
    Code.UNAUTHENTICATED, "the cluster's agent no longer vouches for the key that signed the token of this session"
)
_CHANGED: Final = Fault(Code.CLOSED, "what this node agent may do has changed: connect again")
"""Nobody gains or keeps a right without a new handshake."""


class Standing:
    """Asks the indexes."""

    def __init__(
        self,
        clusters: ClusterLookup,
        tokens: AgentTokenIndex,
        keys: AgentKeyIndex,
        nodes: NodeTokens,
        clock: Clock,
    ) -> None:
        self._clusters = clusters
        self._tokens = tokens
        self._keys = keys
        self._nodes = nodes
        self._clock = clock

    def fault(self, proven: ProvenSession) -> Fault | None:
        """None while the session may go on."""
        identity, now = proven.identity, self._clock()
        if self._clusters.name_of(identity.cluster_uid) is None:
            return _REVOKED
        if identity.role == ROLE_NODE:
            return self._node_fault(proven, now)
        if not proven.key:
            token = self._tokens.get(identity.credential_id)
            return _REVOKED if token is None or token.is_expired(now) else None
        record = self._keys.get(identity.credential_id)
        if record is None or record.is_revoked:
            return _REVOKED
        return None if record.is_valid(proven.key, now) else _REPLACED

    def _node_fault(self, proven: ProvenSession, now: float) -> Fault | None:
        if self._nodes.is_denied(proven.identity):
            return _REVOKED
        if proven.expires_at is None or now > proven.expires_at + TOKEN_GRACE_S:
            return _EXPIRED
        if not self._nodes.vouches(proven.identity.cluster_uid, proven.rests_on):
            return _UNVOUCHED
        return None if self._nodes.still_holds(proven.identity) else _CHANGED


class Registrants:
    """Which agents of role cluster may speak for their cluster: those that are neither revoked nor expired."""

    def __init__(self, tokens: AgentTokenIndex, keys: AgentKeyIndex, clock: Clock) -> None:
        self._tokens = tokens
        self._keys = keys
        self._clock = clock

    def is_live(self, cluster_uid: str, credential_id: str) -> bool:
        key, token = self._keys.get(credential_id), self._tokens.get(credential_id)
        if key is not None:
            return key.cluster_uid == cluster_uid and not key.is_revoked
        return token is not None and token.cluster_uid == cluster_uid and not token.is_expired(self._clock())
