"""Join tokens: hashed, bound, bounded."""

from __future__ import annotations

from pathlib import Path

from hub.auth import bearer
from hub.auth.jointokens import LIFETIME_MAX_S, JoinToken, JoinTokens
from hub.store.sqlite import SqliteStore
from tests.hub.auth.records import join_token, stored
from tests.hub.store.conformance import SettableClock


async def test_only_the_hash_is_kept_and_no_life_is_longer_than_a_day(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    record, minted, revision = await JoinTokens(store, clock).create(
        cluster_uid="u", lifetime_s=10 * LIFETIME_MAX_S, created_by="admin"
    )
    assert record.expires_at == clock.now + LIFETIME_MAX_S
    presented = bearer.parse(minted.text.encode())
    assert presented is not None
    assert (presented.prefix, presented.id) == ("riatajoin", record.id)
    assert bearer.matches(presented, record.digest)
    await store.compact(1)
    assert await JoinTokens(store, clock).revoke("other", record.id) is None
    assert (await JoinTokens(store, clock).revoke("u", record.id) or 0) > revision
    await store.close()
    secret = minted.text.rpartition("_")[2].encode()
    assert all(secret not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_record_is_read_back() -> None:
    assert JoinToken.of(stored(join_token())) == join_token()
    assert "dddd" not in repr(join_token())
    assert (join_token().is_expired(900.9), join_token().is_expired(901.0)) == (False, True)
