"""The key file: 0600 or nothing, whole or nothing, one writer wins."""

import asyncio
import os

import pytest

from agent import keys
from agent.keys import Kept, KeyConflict, KeyFile, KeyPair, KeyState, KeyUnusable

ONE, TWO = KeyState(KeyPair(b"1" * 32, 1.0)), KeyState(KeyPair(b"2" * 32, 2.0), "uid", KeyPair(b"3" * 32, 3.0))


async def test_nothing_then_one_then_the_other(tmp_path):
    store = KeyFile(tmp_path / "key")
    assert await store.load() == Kept(None, "")
    kept = await store.save(ONE, "")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert await store.load() == kept
    assert (await store.save(TWO, kept.version)).state == TWO
    assert (await KeyFile(tmp_path / "key").load()).state == TWO


async def test_of_many_writers_one_wins(tmp_path):
    stores = [KeyFile(tmp_path / "key") for _ in range(16)]
    states = [KeyState(KeyPair(bytes([number]) * 32, 1.0)) for number in range(16)]
    outcomes = await asyncio.gather(
        *(store.save(state, "") for store, state in zip(stores, states, strict=True)), return_exceptions=True
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Kept)]
    assert all(isinstance(outcome, Kept | KeyConflict) for outcome in outcomes)
    assert await stores[0].load() == winner


async def test_a_file_that_others_may_read_is_refused(tmp_path):
    store = KeyFile(tmp_path / "key")
    kept = await store.save(ONE, "")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        await store.load()
    with pytest.raises(KeyUnusable):
        await store.save(TWO, kept.version)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"current":{"seed":"c2VjcmV0","made_at":1}}']
)
async def test_what_is_no_key_is_explained_and_not_quoted(tmp_path, content):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyUnusable, match="holds no agent key") as caught:
        await KeyFile(path).load()
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(KeyUnusable, match="--key-file"):
        await KeyFile(tmp_path / "none" / "key").save(ONE, "")
    (tmp_path / "directory").mkdir()
    with pytest.raises(KeyUnusable):
        await KeyFile(tmp_path / "directory").load()


async def test_a_crash_while_it_writes_leaves_the_old_key(tmp_path, monkeypatch):
    store = KeyFile(tmp_path / "key")
    kept = await store.save(ONE, "")

    def crash(*_):
        raise KeyboardInterrupt

    for step in ("fsync", "fdopen"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, crash)
            with pytest.raises(KeyboardInterrupt):
                store._save(TWO, kept.version)
        assert store._load() == kept
    assert store._save(TWO, kept.version).state == TWO


def test_no_key_shows_itself():
    assert "3333" not in repr(TWO) + str(TWO)
    assert keys.decode(keys.encode(TWO), "x") == TWO
