"""What one process of a hub does beside serving: what is over, or was left half done, leaves the store."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from hub.agents import AgentIndexes
from hub.auth.agentkeys import AgentKeys
from hub.auth.agents import AgentTokens
from hub.auth.issuers import Issuers
from hub.auth.jointokens import JoinTokens
from hub.auth.pods import Pods
from hub.auth.retention import Retention
from hub.auth.tokens import TokenIndex, Tokens
from hub.clock import wall_clock
from hub.clusters import nodetable, records
from hub.clusters.cleanups import CleanUps
from hub.store.interface import Store
from hub.store.model import StoreUnavailable

logger = logging.getLogger(__name__)

PURGE_S: Final = 3600.0
"""How often what is over is looked for."""


async def tidy(store: Store) -> None:
    """When a hub starts: what a crash left half done. Raises StoreError."""
    live = [item.uid for item in (await store.list(records.KIND)).items]
    await CleanUps(store, wall_clock).recover(live)
    await records.Clusters(store, wall_clock).sweep()


def make_retention(tokens: TokenIndex, agents: AgentIndexes, store: Store) -> Retention:
    return Retention(
        tokens,
        Tokens(store, wall_clock),
        agents.tokens,
        AgentTokens(store, wall_clock),
        agents.join_tokens,
        JoinTokens(store, wall_clock),
        agents.keys,
        AgentKeys(store, wall_clock),
        agents.issuers,
        Issuers(store, wall_clock),
        agents.pods,
        Pods(store),
        wall_clock,
    )


async def purge(retention: Retention, store: Store) -> None:
    """Remove what expired long ago, and what agents said that are no more, for ever."""
    while True:
        await asyncio.sleep(PURGE_S)
        try:
            await retention.purge()
            await nodetable.purge(store, retention.is_known)
        except StoreUnavailable:
            logger.warning("expired tokens could not be removed")
