"""What one process of a hub does beside serving: what is over, or was left half done, leaves the store."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from hub.agents import AgentIndexes
from hub.audit import Audit
from hub.auth.agentkeys import AgentKeys
from hub.auth.agents import AgentTokens
from hub.auth.descendants import made_with
from hub.auth.issuers import Issuers
from hub.auth.jointokens import JoinTokens
from hub.auth.pods import Pods
from hub.auth.retention import Retention
from hub.auth.tokens import TokenIndex, Tokens, tell
from hub.clock import wall_clock
from hub.clusters import nodetable, records
from hub.clusters.cleanups import CleanUps
from hub.store.interface import Store
from hub.store.model import StoreUnavailable

logger = logging.getLogger(__name__)

PURGE_S: Final = 3600.0
"""How often what is over is looked for."""
RESUME_S: Final = 60.0
"""How often revocations that were cut short are looked for."""
_BY: Final = "hub:upkeep"
"""In audit events; no user may have such a name."""


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
        store,
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


async def resume_revocations(index: TokenIndex, clusters: records.ClusterIndex, store: Store) -> None:
    """End what a crash or a failing store cut short of revocations with descendants: all of them now, then those that
    were under way at the last look already, for ever."""
    tokens, before = Tokens(store, wall_clock), index.closed
    while True:
        closed = index.closed
        try:
            for token_id in sorted(closed & before):
                await _end_descendants(index, clusters, tokens, token_id)
        except StoreUnavailable:
            logger.warning("revocations of tokens could not be completed")
        before = closed
        await asyncio.sleep(RESUME_S)


async def _end_descendants(index: TokenIndex, clusters: records.ClusterIndex, tokens: Tokens, token_id: str) -> None:
    """What is made with them meanwhile its maker takes back: it sees the closed token, or that its own is gone."""
    for record in await made_with(index, token_id):
        if await tokens.revoke(record.id) is not None:
            tell(Audit.TOKEN_REVOKED, record, clusters.names_of(record.cluster_uids), by=_BY)
    await tokens.revoke(token_id)
    logger.info("revocation of a token with its descendants completed", extra={"token_id": token_id})
