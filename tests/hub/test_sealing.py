"""The keys of a hub: it starts with the right ones only, and takes new ones while it runs."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub import sealing
from hub.sealing import Keeper, KeysUnusable
from hub.store import keyfile, sqlite
from hub.store.keyfile import EncryptionKey
from hub.store.model import Key, Resource, StoreUnavailable
from hub.store.resealing import CHECK, CHECK_FIELD, FIELDS
from hub.store.sealed import key_id_of
from hub.store.sqlite import SqliteStore

AT = Key("hub-secret", "", "x")
FIELD = FIELDS["hub-secret"][0]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    yield store
    await store.close()


async def unlocked(tmp_path: Path, store: SqliteStore, named: Path | None = None) -> Keeper:
    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    keeper = Keeper(tmp_path, named, store, at_once)
    await keeper.unlock()
    return keeper


async def kept(keeper: Keeper, store: SqliteStore) -> None:
    """A look at file and store, as the loop does."""
    keeper.reload_if_changed(await store.get(CHECK))
    await keeper.advance()


async def test_the_first_start_makes_a_key_and_the_next_ones_need_it(tmp_path: Path, store: SqliteStore) -> None:
    one = await unlocked(tmp_path, store)
    file = tmp_path / sealing.FILE_NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    sealed = one.sealer.seal(AT, FIELD, b"secret")
    assert (await unlocked(tmp_path, store)).sealer.open(AT, FIELD, sealed) == b"secret"
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(KeysUnusable, match="restore it from your copy"):
        await unlocked(tmp_path, store)
    assert not file.exists()  # a new key would open nothing
    file.write_bytes(content)
    await unlocked(tmp_path, store)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (base64.b64encode(b"short"), "has 5 bytes, it needs 32"),
        (keyfile.render([EncryptionKey.new()]), "is not this database's"),
    ],
)
async def test_an_empty_a_short_and_a_wrong_key_end_the_start(
    tmp_path: Path, store: SqliteStore, content: bytes, says: str
) -> None:
    await unlocked(tmp_path, store)
    (tmp_path / sealing.FILE_NAME).write_bytes(content)
    with pytest.raises(KeysUnusable, match=says) as caught:
        await unlocked(tmp_path, store)
    assert str(tmp_path / sealing.FILE_NAME) in str(caught.value)


async def test_a_file_that_an_operator_names_is_theirs_to_make(tmp_path: Path, store: SqliteStore) -> None:
    named = tmp_path / "mounted" / "keys"
    with pytest.raises(KeysUnusable, match="openssl rand"):
        await unlocked(tmp_path, store, named)
    assert not named.exists()
    assert await store.get(CHECK) is None
    named.parent.mkdir()
    named.write_bytes(keyfile.render([EncryptionKey.new()]))
    await unlocked(tmp_path, store, named)
    assert not (tmp_path / sealing.FILE_NAME).exists()


async def test_of_keys_that_are_made_at_once_none_is_lost(tmp_path: Path, store: SqliteStore) -> None:
    """Two administrators, or a cron job on each of two machines."""
    await unlocked(tmp_path, store)
    file = tmp_path / sealing.FILE_NAME
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        made = [ring.current.id for ring in pool.map(sealing.rotate, [file] * 6)]
    assert {key.id for key in sealing.read(file)[1].keys} > set(made)


async def test_a_key_is_made_where_the_file_is_and_not_in_the_place_of_a_link_to_it(
    tmp_path: Path, store: SqliteStore
) -> None:
    await unlocked(tmp_path, store)
    (tmp_path / "safe").mkdir()
    kept, file = tmp_path / "safe" / "key", tmp_path / sealing.FILE_NAME
    file.rename(kept)
    file.symlink_to(kept)
    made = sealing.rotate(file)
    assert file.is_symlink()
    assert sealing.read(kept)[1] == made


async def test_a_key_is_rotated_while_the_hub_runs(tmp_path: Path, store: SqliteStore) -> None:
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    await store.put(Resource(AT, {FIELD: keeper.sealer.seal(AT, FIELD, b"secret")}))
    old = keyfile.parse(file.read_bytes()).current
    sealing.rotate(file)
    with pytest.raises(KeysUnusable, match="2 values are still"):
        sealing.retire(file, sqlite.peek(tmp_path / "hub.db", {*FIELDS, CHECK.kind}))
    new = keyfile.parse(file.read_bytes()).current
    assert new != old
    await kept(keeper, store)
    found, check = await store.get(AT), await store.get(CHECK)
    assert found is not None
    assert check is not None
    assert key_id_of(found.spec[FIELD]) == key_id_of(check.spec[CHECK_FIELD]) == new.id
    assert keeper.sealer.open(AT, FIELD, found.spec[FIELD]) == b"secret"
    assert sealing.retire(file, sqlite.peek(tmp_path / "hub.db", {*FIELDS, CHECK.kind})) == [old.id]
    await kept(keeper, store)
    assert keeper.sealer.ring.keys == (new,)
    await unlocked(tmp_path, store)


async def test_a_rotation_ends_at_any_write_and_goes_on_at_the_next_start(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, put = tmp_path / sealing.FILE_NAME, store.put
    keeper = await unlocked(tmp_path, store)
    places = [Key("hub-secret", "", f"x{number}") for number in range(3)]
    for at in places:
        await store.put(Resource(at, {FIELD: keeper.sealer.seal(at, FIELD, at.name.encode())}))
    for death in range(1, 5):
        sealing.rotate(file)
        writes = 0

        async def dies(resource: Resource, death: int = death) -> Resource:
            nonlocal writes
            writes += 1
            if writes == death:
                raise StoreUnavailable("killed")
            return await put(resource)

        with monkeypatch.context() as patched:
            patched.setattr(store, "put", dies)
            with pytest.raises(StoreUnavailable):
                await kept(keeper, store)
        keeper = await unlocked(tmp_path, store)  # the next process
        for at in places:
            found = await store.get(at)
            assert found is not None
            assert keeper.sealer.open(at, FIELD, found.spec[FIELD]) == at.name.encode()
        await kept(keeper, store)
        sealing.retire(file, sqlite.peek(tmp_path / "hub.db", {*FIELDS, CHECK.kind}))
        keeper = await unlocked(tmp_path, store)


async def test_a_file_that_does_not_fit_changes_nothing(
    tmp_path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    before = keeper.sealer.ring
    for content in (b"", b"x", keyfile.render([EncryptionKey.new()])):
        file.write_bytes(content)
        await kept(keeper, store)
        await kept(keeper, store)
        assert keeper.sealer.ring is before
    file.unlink()
    await kept(keeper, store)
    assert keeper.sealer.ring is before
    refusals = [record for record in caplog.records if "refused" in record.message]
    assert len(refusals) == 3  # each is told once


def refuses(path: Path) -> bytes:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


async def test_a_key_file_that_the_hub_may_not_read_is_said_once_with_the_cure(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`riata-hub keys rotate` by root, of a version that left the file root's."""
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    for _ in range(2):  # another time it is another fault
        before = keeper.sealer.ring
        sealing.rotate(file)
        caplog.clear()
        with monkeypatch.context() as patched:
            patched.setattr(sealing, "_content", refuses)
            for _ in range(3):
                await kept(keeper, store)
        (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert said.message == "encryption keys cannot be read, the ones in memory stay"
        assert f"{file}: user {os.geteuid()} may not open it" in said.reason
        assert f"chown {os.geteuid()}:{os.getegid()} {file}" in said.reason
        assert keeper.sealer.ring is before
        await kept(keeper, store)  # cured
        assert keeper.sealer.ring is not before


async def test_a_key_file_that_is_gone_is_said_once_while_the_hub_still_has_its_keys(
    tmp_path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start would find that nothing opens what is sealed."""
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    content = file.read_bytes()
    file.unlink()
    await kept(keeper, store)  # perhaps it is being replaced
    assert caplog.records == []
    for _ in range(3):
        await kept(keeper, store)
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert f"{file}: No such file or directory; put your copy back" in said.reason  # type: ignore[attr-defined]
    file.write_bytes(content)
    await kept(keeper, store)
    file.unlink()
    for _ in range(2):
        await kept(keeper, store)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("absent", "told"), [(1, ["may not open it"]), (2, ["put your copy back", "may not open it"])])
async def test_a_key_file_that_comes_back_closed_is_said_whatever_was_said_before(
    tmp_path: Path,
    store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    absent: int,
    told: list[str],
) -> None:
    """Root puts it back with 0600: whoever did that believes that all is well."""
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    content = file.read_bytes()
    file.unlink()
    for _ in range(absent):
        await kept(keeper, store)
    file.write_bytes(content)
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "_content", refuses)
        for _ in range(3):
            await kept(keeper, store)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    reasons = [record.reason for record in errors]  # type: ignore[attr-defined]
    assert len(reasons) == len(told)
    assert all(text in reason for text, reason in zip(told, reasons, strict=True))


async def test_a_closed_key_file_that_is_replaced_meanwhile_is_not_said_to_be_gone(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    content = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "_content", refuses)
        await kept(keeper, store)
    file.unlink()
    await kept(keeper, store)
    file.write_bytes(content)
    await kept(keeper, store)
    assert len(caplog.records) == 1


async def test_a_start_that_may_not_read_the_key_file_names_the_cure(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await unlocked(tmp_path, store)
    monkeypatch.setattr(sealing, "_content", refuses)
    with pytest.raises(KeysUnusable, match=r"may not open it .* chown") as caught:
        await unlocked(tmp_path, store)
    assert "restore" not in str(caught.value)  # nothing is lost


async def test_a_value_that_does_not_open_keeps_the_old_key_in_force(
    tmp_path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, file = await unlocked(tmp_path, store), tmp_path / sealing.FILE_NAME
    foreign = keeper.sealer.seal(Key("hub-secret", "", "other"), FIELD, b"secret")
    await store.put(Resource(AT, {FIELD: foreign}))
    sealing.rotate(file)
    await kept(keeper, store)
    assert "sealed value left as it is" in caplog.text
    with pytest.raises(KeysUnusable, match="still sealed with an older key"):
        sealing.retire(file, sqlite.peek(tmp_path / "hub.db", {*FIELDS, CHECK.kind}))


async def test_the_loop_survives_a_store_that_fails(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    async def thrice(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise asyncio.CancelledError

    keeper = Keeper(tmp_path, None, store, thrice)
    await keeper.unlock()

    async def fails(key: Key) -> None:
        raise StoreUnavailable("no disk")

    monkeypatch.setattr(store, "get", fails)
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        await keeper.keep()
    assert caplog.text.count("could not be looked at") == 3


def test_a_file_that_is_full_is_said(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(keyfile.render(EncryptionKey.new() for _ in range(keyfile.KEYS_MAX)))
    with pytest.raises(KeysUnusable, match="keys retire"):
        sealing.rotate(file)
