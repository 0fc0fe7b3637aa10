"""Enrolled agents: found by key, revoked for good, changed by compare-and-swap."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from hub.auth.agentkeys import AgentKey, AgentKeyIndex, AgentKeys, PublicKey
from hub.store.sqlite import SqliteStore
from tests.hub.auth.records import agent_key, gone, made, stored
from tests.hub.store.conformance import SettableClock

OLD, NEW = b"o" * 32, b"n" * 32


def test_found_by_cluster_and_key_and_gone_when_revoked() -> None:
    lost: list[str] = []
    index = AgentKeyIndex(lost.append)
    one = agent_key("one", OLD)
    index.apply(made(one))
    index.apply(made(agent_key("two", OLD, cluster_uid="uid-b")))
    assert index.by_key("uid-a", OLD) == one
    both = dataclasses.replace(one, keys=(PublicKey(OLD, 1.0, 61.0), PublicKey(NEW, 2.0)))
    index.apply(made(both))
    assert index.by_key("uid-a", OLD) == index.by_key("uid-a", NEW) == both
    index.apply(made(dataclasses.replace(both, keys=both.keys[1:])))
    assert index.by_key("uid-a", OLD) is None
    assert lost == []
    index.apply(made(dataclasses.replace(both, revoked_at=3.0)))
    assert lost == ["one"]
    found = index.by_key("uid-a", NEW)
    assert found is not None
    assert found.is_revoked
    index.apply(gone(both))
    assert index.by_key("uid-a", NEW) is None
    index.reset([])
    assert index.by_key("uid-b", OLD) is None
    assert lost == ["one", "one", "two"]


def test_which_key_counts_when() -> None:
    record = agent_key(keys=(PublicKey(OLD, 1.0, 60.0), PublicKey(NEW, 2.0)))
    assert (record.is_valid(OLD, 59.9), record.is_valid(OLD, 60.0)) == (True, False)
    assert (record.is_valid(NEW, 1e9), record.is_valid(b"x", 0.0)) == (True, False)
    assert not record.is_valid(OLD, 60.0 - 7200)  # the clock was set back: a key that may have leaked ends all the same
    assert record.current.value == NEW
    assert not dataclasses.replace(record, revoked_at=1.0).is_valid(NEW, 0.0)
    assert AgentKey.of(stored(record)) == record


def test_an_agent_without_a_key_is_unreadable() -> None:
    resource = stored(agent_key())
    with pytest.raises(ValueError, match="at least one key"):
        AgentKey.of(dataclasses.replace(resource, spec={**resource.spec, "keys": []}))


async def test_enrol_change_and_revoke(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    keys = AgentKeys(store, clock)

    async def enrol(key: bytes) -> tuple[AgentKey, bool]:
        return await keys.enrol(agent_id="a", cluster_uid="u", role="cluster", key=key, joined_from="x")

    outcomes = await asyncio.gather(*(enrol(bytes([number]) * 32) for number in range(50)))
    assert [is_ours for _, is_ours in outcomes].count(True) == 1
    assert len({record for record, _ in outcomes}) == 1

    counted = 0

    def count(record: AgentKey) -> AgentKey:
        nonlocal counted
        counted += 1
        return dataclasses.replace(record, joined_from=f"{record.joined_from}x")

    await asyncio.gather(*(keys.change("u", "a", count) for _ in range(5)))
    assert counted >= 5
    first = await keys.revoke("u", "a", by="admin")
    assert first is not None
    assert (first.joined_from, first.revoked_at, first.revoked_by) == ("xxxxxx", clock.now, "admin")
    clock.now += 5
    assert await keys.revoke("u", "a", by="other") == first
    assert await keys.revoke("other", "a", by="admin") is None
    assert await keys.forget("u", "a") is not None
    assert await keys.change("u", "a", count) is None
    await store.close()
