"""Credentials that expired long ago leave the store: every `riata kubeconfig` mints a token that nobody revokes."""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Final

from hub.auth.agentkeys import AgentKey, AgentKeyIndex, AgentKeys
from hub.auth.agents import AgentTokenIndex, AgentTokens
from hub.auth.issuers import IssuerIndex, Issuers
from hub.auth.jointokens import JoinTokenIndex, JoinTokens
from hub.auth.pods import PodIndex, Pods
from hub.auth.tokens import TokenIndex, Tokens
from hub.clock import Clock
from hub.store.interface import Store
from hub.store.model import Key, Resource

logger = logging.getLogger(__name__)

KEEP_S: Final = 7 * 86_400.0
"""An expired token is still listed for a week, so that somebody who wonders finds out why it is refused. A user at the
bound of `tokens_per_user_max` loses the oldest ones earlier (hub.api.tokens)."""
REVOKED_MAX: Final = 1_000
"""Revoked agents of one cluster whose keys are remembered for as long as it lives. A person revoked each."""
SET_S: Final = 3600.0
"""So much more or less than the time that has passed between two looks, and the clock was set."""
DOUBT_S: Final = 86_400.0
"""For so long afterwards, while the hub runs, nothing that expired is deleted: by a clock that was set wrong everything
that ever expires has, is refused, and is sound again once somebody has set it right, unless it is gone."""
LOOK: Final = Key("hub", "", "retention")
"""The last look: when it was by the clock (seconds since the epoch), and for how many seconds that is doubted still."""


class Retention:
    """Call `purge` now and then."""

    def __init__(
        self,
        token_index: TokenIndex,
        tokens: Tokens,
        agent_token_index: AgentTokenIndex,
        agent_tokens: AgentTokens,
        join_token_index: JoinTokenIndex,
        join_tokens: JoinTokens,
        agent_key_index: AgentKeyIndex,
        agent_keys: AgentKeys,
        issuer_index: IssuerIndex,
        issuers: Issuers,
        pod_index: PodIndex,
        pods: Pods,
        store: Store,
        clock: Clock,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`passed`: seconds that grow as time does, whatever the clock is set to."""
        self._token_index = token_index
        self._tokens = tokens
        self._agent_token_index = agent_token_index
        self._agent_tokens = agent_tokens
        self._join_token_index = join_token_index
        self._join_tokens = join_tokens
        self._agent_key_index = agent_key_index
        self._agent_keys = agent_keys
        self._issuer_index = issuer_index
        self._issuers = issuers
        self._pod_index = pod_index
        self._pods = pods
        self._clock = clock
        self._doubt = _Doubt(store, clock(), passed)

    async def purge(self) -> int:
        """Delete what expired more than KEEP_S ago, unless the clock was set a short while ago; how many. Raises
        StoreUnavailable."""
        now = self._clock()
        count = 0 if await self._doubt.look(now) else await self._purge_expired(now - KEEP_S)
        count += await self._purge_registrations()
        if count:
            logger.info("expired credentials removed", extra={"count": count})
        return count

    async def _purge_expired(self, before: float) -> int:
        old = [token for token in self._token_index if token.is_expired(before)]
        old_agents = [token for token in self._agent_token_index if token.is_expired(before)]
        for token in old:
            await self._tokens.revoke(token.id)
        for agent_token in old_agents:
            await self._agent_tokens.revoke(agent_token.cluster_uid, agent_token.id)
        return len(old) + len(old_agents) + await self._purge_enrolment(before)

    async def _purge_enrolment(self, before: float) -> int:
        """Join tokens that nobody can use any more, and what `_forgettable` says.

        The token of a living agent stays: one that never saw its WELCOME shows it again.
        """
        keys = self._agent_key_index
        tokens = [t for t in self._join_token_index if t.is_expired(before) and _is_over(keys, t.id)]
        revoked = _forgettable(keys, before)
        for token in tokens:
            await self._join_tokens.revoke(token.cluster_uid, token.id)
        for key in revoked:
            await self._agent_keys.forget(key.cluster_uid, key.id)
        return len(tokens) + len(revoked)

    async def _purge_registrations(self) -> int:
        """What agents registered that are revoked or gone: it counts for nothing, and another agent may say it anew."""
        said = {(issuer.cluster_uid, issuer.registered_by) for issuer in self._issuer_index}
        gone = [each for each in said | self._pod_index.registrants() if not self.is_known(each[1])]
        for cluster_uid, registrant in gone:
            await self._issuers.forget(cluster_uid, registrant)
            await self._pods.forget(cluster_uid, registrant)
        return len(gone)

    def is_known(self, registrant: str) -> bool:
        """Whether what the agent with this credential registered may still count."""
        key = self._agent_key_index.get(registrant)
        return self._agent_token_index.get(registrant) is not None if key is None else not key.is_revoked


def _forgettable(keys: AgentKeyIndex, before: float) -> list[AgentKey]:
    """Records of join tokens that were taken back: they outlive the token itself (24 h at most) by far. Those of
    revoked agents stay, or a new join token would enrol the revoked key, but for the oldest beyond REVOKED_MAX."""
    revoked = [(key.revoked_at, key) for key in keys if key.revoked_at is not None and key.revoked_at <= before]
    kept: collections.Counter[str] = collections.Counter()
    found: list[AgentKey] = []
    for _, key in sorted(revoked, key=lambda each: each[0], reverse=True):
        kept[key.cluster_uid] += not key.is_barred
        if key.is_barred or kept[key.cluster_uid] > REVOKED_MAX:
            found.append(key)
    return found


class _Doubt:
    """Whether the clock was set a short while ago, also while the hub was off: the last look is in the store."""

    def __init__(self, store: Store, now: float, passed: Callable[[], float]) -> None:
        self._store = store
        self._passed = passed
        self._at, self._passed_at = now, passed()
        """The last look of this process, or its start, by the clock and by `passed`."""

    async def look(self, now: float) -> bool:
        """Whether nothing is to be deleted by the clock, that shows `now`. Raises StoreUnavailable."""
        found = await self._store.get(LOOK)
        at, left_s = _last(found)
        passed = self._passed()
        since = passed - self._passed_at
        set_by = now - self._at - since
        self._at, self._passed_at = now, passed
        left_s = max(left_s - since, 0.0)
        if at is None:  # a new hub's store, or one of a version that kept no looks: nobody knows
            left_s = DOUBT_S
        elif abs(set_by) > SET_S or not -SET_S <= now - at <= KEEP_S:
            # A hub that was off for longer than KEEP_S cannot tell that from a clock that is ahead. By one that is
            # ahead by less nothing goes that is good.
            left_s = DOUBT_S
            by_s = set_by if abs(set_by) > SET_S else now - at
            logger.warning("clock was set, expired credentials stay for a day", extra={"by_s": round(by_s)})
        spec = {"at": now, "doubt_s": left_s}
        await self._store.put(Resource(LOOK, spec) if found is None else dataclasses.replace(found, spec=spec))
        return left_s > 0


def _last(found: Resource | None) -> tuple[float | None, float]:
    """When the last look was, None if nobody knows, and for how many seconds the clock was doubted then."""
    at, left_s = (found.spec.get("at"), found.spec.get("doubt_s")) if found is not None else (None, None)
    return (at, left_s) if isinstance(at, int | float) and isinstance(left_s, int | float) else (None, 0.0)


def _is_over(keys: AgentKeyIndex, agent_id: str) -> bool:
    agent = keys.get(agent_id)
    return agent is None or agent.is_revoked
