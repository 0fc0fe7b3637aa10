"""Revocation that is felt at once: what runs on a revoked right is cut, not only refused the next time (P12, H11).

It listens to the indexes, not to the API, so that a change made by another hub cuts here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hub.auth.agentkeys import AgentKeyIndex
from hub.auth.agents import AgentTokenIndex
from hub.auth.grants import Grant, GrantIndex
from hub.auth.issuers import IssuerIndex
from hub.auth.rotation import ProvenSession
from hub.auth.standing import Fault
from hub.auth.tokens import TokenIndex
from hub.clock import Clock
from proto.errors import Code

Faults = Callable[[ProvenSession], Fault | None]


class Sessions(Protocol):
    """Live sessions of agents (hub.tunnel.registry.Registry)."""

    def cut(self, *, cluster_uid: str | None = None, credential_id: str | None = None, code: Code) -> object: ...

    def cut_faulty(self, fault: Faults, *, cluster_uid: str | None = None) -> object:
        """End the sessions, of one cluster when given, that `fault` finds something wrong with."""
        ...


class Exchanges(Protocol):
    """Live exchanges of users (hub.proxy.relay.Relay)."""

    def cut(self, *, token_id: str | None = None, cluster_uid: str | None = None) -> object: ...

    def recheck(self, cluster_uid: str) -> object:
        """Cut every exchange of a cluster, or of EVERY_CLUSTER, that would not be begun today with the rights that it
        was begun with."""
        ...


class Revocation:
    """Connects the indexes with what is alive. Synchronous: a change is felt in the tick that learns of it."""

    def __init__(
        self,
        *,
        tokens: TokenIndex,
        grants: GrantIndex,
        agent_tokens: AgentTokenIndex,
        agent_keys: AgentKeyIndex,
        issuers: IssuerIndex,
        fault: Faults,
        sessions: Sessions,
        exchanges: Exchanges,
        clock: Clock,
    ) -> None:
        """`fault`: what is wrong with a session now (hub.auth.standing)."""
        self._tokens = tokens
        self._issuers = issuers
        self._fault = fault
        self._sessions = sessions
        self._exchanges = exchanges
        self._clock = clock
        self._swept_at = clock()
        tokens.on_gone = self.token_gone
        grants.on_change = self.grant_changed
        agent_tokens.on_gone = self.agent_gone
        agent_keys.on_gone = self.agent_gone
        issuers.on_changed = self.issuer_changed

    def token_gone(self, token_id: str) -> None:
        """A user token was revoked or expired."""
        self._exchanges.cut(token_id=token_id)

    def agent_gone(self, credential_id: str) -> None:
        """An agent token or an enrolled agent was revoked: with it go the node sessions that rest on its word."""
        self._sessions.cut(credential_id=credential_id, code=Code.REVOKED)
        for uid in {issuer.cluster_uid for issuer in self._issuers if issuer.registered_by == credential_id}:
            self._sessions.cut_faulty(self._fault, cluster_uid=uid)

    def issuer_changed(self, cluster_uid: str) -> None:
        """What proves the node agents of a cluster is another thing now."""
        self._sessions.cut_faulty(self._fault, cluster_uid=cluster_uid)

    def cluster_gone(self, cluster_uid: str) -> None:
        """A cluster was deleted."""
        self._exchanges.cut(cluster_uid=cluster_uid)
        self._sessions.cut(cluster_uid=cluster_uid, code=Code.REVOKED)

    def grant_changed(self, before: Grant) -> None:
        """A grant was removed or replaced: what it gave may be gone."""
        self._exchanges.recheck(before.cluster_uid)

    def cut_expired(self) -> None:
        """Cut what runs on user tokens that expired since the last call, and every session of an agent that what it
        has proven no longer carries. Call it every few seconds."""
        since, self._swept_at = self._swept_at, self._clock()
        for token in self._tokens:
            if token.expires_at is not None and since < token.expires_at <= self._swept_at:
                self.token_gone(token.id)
        self._sessions.cut_faulty(self._fault)
