"""Credentials that expired long ago leave the store: every `riata kubeconfig` mints a token that nobody revokes."""

from __future__ import annotations

import logging
from typing import Final

from hub.auth.agents import AgentTokenIndex, AgentTokens
from hub.auth.tokens import TokenIndex, Tokens
from hub.clock import Clock

logger = logging.getLogger(__name__)

KEEP_S: Final = 7 * 86_400.0
"""An expired token is still listed for a week, so that somebody who wonders finds out why it is refused."""


class Retention:
    """Call `purge` now and then."""

    def __init__(
        self,
        token_index: TokenIndex,
        tokens: Tokens,
        agent_token_index: AgentTokenIndex,
        agent_tokens: AgentTokens,
        clock: Clock,
    ) -> None:
        self._token_index = token_index
        self._tokens = tokens
        self._agent_token_index = agent_token_index
        self._agent_tokens = agent_tokens
        self._clock = clock

    async def purge(self) -> int:
        """Delete what expired more than KEEP_S ago; how many. Raises StoreUnavailable."""
        before = self._clock() - KEEP_S
        old = [token for token in self._token_index if token.is_expired(before)]
        old_agents = [token for token in self._agent_token_index if token.is_expired(before)]
        for token in old:
            await self._tokens.revoke(token.id)
        for agent_token in old_agents:
            await self._agent_tokens.revoke(agent_token.cluster_uid, agent_token.id)
        if old or old_agents:
            logger.info("expired tokens removed", extra={"count": len(old) + len(old_agents)})
        return len(old) + len(old_agents)
