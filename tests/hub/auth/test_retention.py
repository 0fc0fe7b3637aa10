"""Expired credentials are kept for a week, then they go; valid ones stay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.auth import retention as module
from hub.auth.agentkeys import AgentKeyIndex, AgentKeys
from hub.auth.agents import AgentTokenIndex, AgentTokens, CredentialRefused
from hub.auth.issuers import IssuerIndex, Issuers
from hub.auth.jointokens import JoinTokenIndex, JoinTokens
from hub.auth.pods import PodIndex, Pods
from hub.auth.retention import DOUBT_S, KEEP_S, LOOK, Retention
from hub.auth.tokens import TokenIndex, Tokens
from hub.store.index import Follower
from hub.store.model import Resource
from hub.store.sqlite import SqliteStore
from proto.commands import RegisterIssuer, RegisterPods
from tests.hub.auth import enrolling
from tests.hub.auth.issuing import Cluster
from tests.hub.store.conformance import SettableClock


async def test_only_what_expired_long_ago_goes(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    tokens, agent_tokens = Tokens(store, clock), AgentTokens(store, clock)
    for name, lifetime_s in (("short", 60.0), ("long", KEEP_S * 2), ("ever", None)):
        await tokens.create(name=name, user="jane", lifetime_s=lifetime_s, created_by="x")
        await agent_tokens.create(cluster_uid="u", name=name, lifetime_s=lifetime_s, created_by="x")
    join_tokens, agent_keys = JoinTokens(store, clock), AgentKeys(store, clock)
    for _ in range(4):
        await join_tokens.create(cluster_uid="u", lifetime_s=60.0, created_by="x")
    *agent_ids, barred, _ = (item.key.name for item in (await store.list("join-token")).items)
    for agent_id in agent_ids:
        await agent_keys.enrol(
            agent_id=agent_id, cluster_uid="u", role="cluster", key=agent_id.encode() * 3, joined_from=""
        )
    clock.now += 60
    await agent_keys.revoke("u", agent_ids[0], by="x")
    await agent_keys.bar("u", barred, by="x")
    token_index, agent_token_index = TokenIndex(), AgentTokenIndex()
    join_token_index, agent_key_index = JoinTokenIndex(), AgentKeyIndex()
    issuer_index, pod_index, issuers, pods = IssuerIndex(), PodIndex(), Issuers(store, clock), Pods(store)
    for by in (*agent_ids, "nobody", (await store.list("agent-token", cluster="u")).items[0].key.name):
        await issuers.register("u", by, RegisterIssuer(issuer="i", jwks=Cluster("u", "ES256").jwks(), subjects=("s",)))
        await pods.register("u", by, RegisterPods(part=0, parts=1, pods=("pod node",)))
    follower = Follower(
        store, [token_index, agent_token_index, join_token_index, agent_key_index, issuer_index, pod_index]
    )
    await follower.load()
    retention = Retention(
        token_index, tokens, agent_token_index, agent_tokens, join_token_index, join_tokens, agent_key_index,
        agent_keys, issuer_index, issuers, pod_index, pods, store, clock, passed=clock,
    )  # fmt: skip
    await store.put(Resource(LOOK, {"at": clock(), "doubt_s": 0}))
    # What a revoked agent and one that is no more registered: gone at once.
    assert await retention.purge() == 2
    await follower.load()
    assert {issuer.registered_by for issuer in issuer_index} == {who for _, who in pod_index.registrants()}
    assert len(pod_index.registrants()) == 2
    clock.now += KEEP_S - 1
    assert await retention.purge() == 0
    clock.now += 1
    # One token of each kind, the unused join token, the one that was taken back with its record, the revoked agent's.
    assert await retention.purge() == 6
    await follower.load()
    assert [token.id for token in join_token_index] == [agent_ids[1]]
    assert {agent.id for agent in agent_key_index} == set(agent_ids)
    assert {token.name for token in token_index} == {token.name for token in agent_token_index} == {"long", "ever"}
    await store.close()


async def test_a_revoked_key_is_remembered_for_as_long_as_its_cluster_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was forgotten after a week: an agent that had been away enrolled it again with the next manifest's token."""
    async with enrolling.world(tmp_path) as world:
        joined = await world.show(world.join(bytes(32), await world.token()))
        await world.revoke(joined.credential_id)
        retention = Retention(
            TokenIndex(), Tokens(world.store, world.clock), AgentTokenIndex(), AgentTokens(world.store, world.clock),
            world.tokens, world.token_writer, world.keys, world.key_writer, IssuerIndex(),
            Issuers(world.store, world.clock), PodIndex(), Pods(world.store), world.store, world.clock,
            passed=world.clock,
        )  # fmt: skip

        async def purge_later() -> int:
            world.clock.now += 2 * KEEP_S
            assert await retention.purge() == 0  # so long without a look: it doubts the clock for a day
            world.clock.now += DOUBT_S
            return await retention.purge()

        assert await purge_later() == 1  # its join token
        with pytest.raises(CredentialRefused, match="was revoked at"):
            await world.show(world.join(bytes(32), await world.token()))
        # And not without a bound: the one that was revoked first gives way.
        monkeypatch.setattr(module, "REVOKED_MAX", 1)
        later = await world.show(world.join(bytes(range(32)), await world.token()))
        await world.revoke(later.credential_id)
        assert await retention.purge() == 0
        assert await purge_later() == 3  # two join tokens, and the first
        assert [item.key.name for item in (await world.store.list("agent-key")).items] == [later.credential_id]


class Hub:
    """With two tokens of a user, one that is over soon and one that is good for weeks."""

    def __init__(self, store: SqliteStore, clock: SettableClock) -> None:
        self.clock, self.passed = clock, SettableClock()
        self.store, self.tokens, self.index = store, Tokens(store, clock), TokenIndex()

    async def begin(self) -> None:
        for name, lifetime_s in (("over", 60.0), ("good", 20 * 86_400.0)):
            await self.tokens.create(name=name, user="jane", lifetime_s=lifetime_s, created_by="x")
        await self.start()
        await self.store.put(Resource(LOOK, {"at": self.clock(), "doubt_s": 0.0}))

    async def start(self) -> None:
        """It has been off."""
        store, clock = self.store, self.clock
        self.follower = Follower(store, [self.index])
        await self.follower.load()
        self.retention = Retention(
            self.index, self.tokens, AgentTokenIndex(), AgentTokens(store, clock), JoinTokenIndex(),
            JoinTokens(store, clock), AgentKeyIndex(), AgentKeys(store, clock), IssuerIndex(), Issuers(store, clock),
            PodIndex(), Pods(store), store, clock, passed=self.passed,
        )  # fmt: skip

    def later(self, seconds: float, *, and_set_by: float = 0.0) -> None:
        self.passed.now += seconds
        self.clock.now += seconds + and_set_by

    async def left(self) -> list[str]:
        await self.follower.load()
        return sorted(token.name for token in self.index)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    hub = Hub(store, clock)
    await hub.begin()
    yield hub
    await store.close()


async def test_a_clock_that_was_just_set_deletes_nothing(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """A month ahead in the hour of the look, and every token that ever expires was gone for good."""
    hub.later(3600, and_set_by=30 * 86_400.0)
    assert await hub.retention.purge() == 0
    hub.later(3600)
    assert await hub.retention.purge() == 0
    hub.later(3600, and_set_by=-30 * 86_400.0)
    assert await hub.retention.purge() == 0
    assert caplog.text.count("clock was set") == 2
    hub.later(DOUBT_S - 1)
    assert await hub.retention.purge() == 0
    hub.later(KEEP_S)
    assert await hub.retention.purge() == 1
    assert await hub.left() == ["good"]
    hub.later(DOUBT_S, and_set_by=30 * 86_400.0)
    assert await hub.retention.purge() == 0
    hub.later(DOUBT_S)
    assert await hub.retention.purge() == 1  # a day on, it is the time


@pytest.mark.parametrize("is_looked_before", [True, False])
async def test_a_hub_that_is_restarted_while_its_clock_is_ahead_deletes_nothing(
    hub: Hub, caplog: pytest.LogCaptureFixture, is_looked_before: bool
) -> None:
    """Everybody is refused, somebody restarts the hub, and an hour later every token that expires was gone."""
    hub.later(1800, and_set_by=60 * 86_400.0)
    if is_looked_before:
        assert await hub.retention.purge() == 0
    await hub.start()
    for _ in range(3):
        hub.later(3600)
        assert await hub.retention.purge() == 0
    assert caplog.text.count("clock was set") == 1
    hub.clock.now -= 60 * 86_400.0
    await hub.start()
    hub.later(3600)
    assert await hub.retention.purge() == 0
    assert await hub.left() == ["good", "over"]


async def test_starts_in_a_row_do_not_put_the_deletion_off_for_ever(hub: Hub) -> None:
    hub.later(KEEP_S * 2)  # it was off for that long, or its clock is ahead
    await hub.start()
    left = []
    for _ in range(5):
        for _ in range(6):
            hub.later(3600)
            await hub.retention.purge()
            left.append(await hub.left())
        await hub.start()
    assert left == [["good", "over"]] * 24 + [["good"]] * 6


async def test_a_hub_that_kept_no_looks_begins_in_doubt(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    await hub.store.delete(LOOK)
    hub.later(KEEP_S * 2)
    await hub.start()
    hub.later(3600)
    assert await hub.retention.purge() == 0
    hub.later(DOUBT_S - 1)
    assert await hub.retention.purge() == 0
    hub.later(1)
    assert await hub.retention.purge() == 1
    assert "clock was set" not in caplog.text
