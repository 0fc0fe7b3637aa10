"""Revocation that is felt at once: what runs on a revoked right is cut, not only refused the next time (P12, H11).

It listens to the indexes, not to the API, so that a change made by another hub cuts here too.
"""

from __future__ import annotations

from typing import Final, Protocol

from hub.auth.agentkeys import AgentKeyIndex
from hub.auth.agents import AgentTokenIndex
from hub.auth.grants import Grant, GrantIndex
from hub.auth.tokens import TokenIndex
from hub.clock import Clock
from proto.errors import Code

TOKEN_GRACE_S: Final = 50.0
"""How long a node agent's session outlives its token; with the sweep it ends within 60 s (P12)."""


class Sessions(Protocol):
    """Live sessions of agents (hub.tunnel.registry.Registry)."""

    def cut(self, *, cluster_uid: str | None = None, credential_id: str | None = None, code: Code) -> object: ...

    def cut_expired(self, before: float) -> object:
        """End the sessions whose proof ended before this."""
        ...

    def cut_key(self, credential_id: str, key: bytes) -> object:
        """End the sessions of an agent that have proven this key last: it was replaced."""
        ...


class Exchanges(Protocol):
    """Live exchanges of users (hub.proxy.relay.Relay)."""

    def cut(self, *, token_id: str | None = None, cluster_uid: str | None = None) -> object: ...

    def recheck(self) -> object:
        """Cut every exchange that would not be begun today with the rights that it was begun with."""
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
        sessions: Sessions,
        exchanges: Exchanges,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._agent_tokens = agent_tokens
        self._agent_keys = agent_keys
        self._sessions = sessions
        self._exchanges = exchanges
        self._clock = clock
        self._swept_at = clock()
        tokens.on_gone = self.token_gone
        grants.on_change = self.grant_changed
        agent_tokens.on_gone = self.agent_gone
        agent_keys.on_gone = self.agent_gone

    def token_gone(self, token_id: str) -> None:
        """A user token was revoked or expired."""
        self._exchanges.cut(token_id=token_id)

    def agent_gone(self, credential_id: str) -> None:
        """An agent token was revoked or expired, or an enrolled agent was revoked."""
        self._sessions.cut(credential_id=credential_id, code=Code.REVOKED)

    def cluster_gone(self, cluster_uid: str) -> None:
        """A cluster was deleted."""
        self._exchanges.cut(cluster_uid=cluster_uid)
        self._sessions.cut(cluster_uid=cluster_uid, code=Code.REVOKED)

    def grant_changed(self, _grant: Grant) -> None:
        """A grant was removed or replaced."""
        self._exchanges.recheck()

    def cut_expired(self) -> None:
        """Cut what runs on tokens that expired since the last call. Call it every few seconds."""
        since, self._swept_at = self._swept_at, self._clock()
        for token in self._tokens:
            if token.expires_at is not None and since < token.expires_at <= self._swept_at:
                self.token_gone(token.id)
        for agent_token in self._agent_tokens:
            if agent_token.expires_at is not None and since < agent_token.expires_at <= self._swept_at:
                self.agent_gone(agent_token.id)
        self._sessions.cut_expired(self._swept_at - TOKEN_GRACE_S)
        for agent in self._agent_keys:
            for key in agent.keys:
                if key.until is not None and since < key.until <= self._swept_at:
                    self._sessions.cut_key(agent.id, key.value)
