"""Expired credentials are kept for a week, then they go; valid ones stay."""

from __future__ import annotations

from pathlib import Path

from hub.auth.agents import AgentTokenIndex, AgentTokens
from hub.auth.retention import KEEP_S, Retention
from hub.auth.tokens import TokenIndex, Tokens
from hub.store.index import Follower
from hub.store.sqlite import SqliteStore
from tests.hub.store.conformance import SettableClock


async def test_only_what_expired_long_ago_goes(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    tokens, agent_tokens = Tokens(store, clock), AgentTokens(store, clock)
    for name, lifetime_s in (("short", 60.0), ("long", KEEP_S * 2), ("ever", None)):
        await tokens.create(name=name, user="jane", lifetime_s=lifetime_s, created_by="x")
        await agent_tokens.create(cluster_uid="u", name=name, lifetime_s=lifetime_s, created_by="x")
    token_index, agent_token_index = TokenIndex(), AgentTokenIndex()
    follower = Follower(store, [token_index, agent_token_index])
    await follower.load()
    retention = Retention(token_index, tokens, agent_token_index, agent_tokens, clock)
    clock.now += 60 + KEEP_S - 1
    assert await retention.purge() == 0
    clock.now += 1
    assert await retention.purge() == 2
    await follower.load()
    assert {token.name for token in token_index} == {token.name for token in agent_token_index} == {"long", "ever"}
    await store.close()
