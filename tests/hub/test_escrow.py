"""The CA's copy: sealed, up to date, and enough to be the same hub again."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hub import bootstrap, carotation, escrow, tls
from hub.escrow import PLACE, keep_copy, restore
from hub.sealing import Keeper, KeysUnusable
from hub.store.keyfile import EncryptionKey, KeyRing
from hub.store.model import Key, Resource
from hub.store.sealed import Sealer, Unsealable
from hub.store.sqlite import FILE_NAME, SqliteStore

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    yield store
    await store.close()


def files(directory: Path) -> tuple[bytes, bytes]:
    return (directory / tls.CA_CERT).read_bytes(), (directory / tls.CA_KEY).read_bytes()


async def test_a_ca_that_is_gone_comes_back_from_the_store(tmp_path: Path, store: SqliteStore) -> None:
    directory, sealer = tmp_path / "tls", Sealer(KeyRing((EncryptionKey.new(),)))
    assert not await keep_copy(directory, store, sealer)
    assert not await restore(directory, store, sealer)
    tls.make_ca(directory, "hub-1", NOW)
    assert await keep_copy(directory, store, sealer)
    assert not await keep_copy(directory, store, sealer)  # nothing is written twice
    assert not await restore(directory, store, sealer)  # nothing is overwritten
    before = files(directory)
    (directory / tls.CA_KEY).unlink()
    assert not await restore(directory, store, sealer)  # half a CA is somebody's work: it is left alone
    shutil.rmtree(directory)
    assert await restore(directory, store, sealer)
    assert files(directory) == before
    assert stat.S_IMODE((directory / tls.CA_KEY).stat().st_mode) == 0o600
    assert tls.ensure_leaf(directory, ["localhost"], NOW)
    shutil.rmtree(directory)
    with pytest.raises(Unsealable):
        await restore(directory, store, Sealer(KeyRing((EncryptionKey.new(),))))
    assert not directory.exists()


async def test_a_restore_that_was_cut_off_between_its_files_is_finished(tmp_path: Path, store: SqliteStore) -> None:
    directory, sealer = tmp_path / "tls", Sealer(KeyRing((EncryptionKey.new(),)))
    tls.make_ca(directory, "hub-1", NOW)
    await keep_copy(directory, store, sealer)
    before = files(directory)
    (directory / tls.CA_CERT).unlink()
    assert await restore(directory, store, sealer)
    assert files(directory) == before
    tls.make_ca(tmp_path / "other", "hub-1", NOW)
    shutil.copy(tmp_path / "other" / tls.CA_KEY, directory / tls.CA_KEY)
    (directory / tls.CA_CERT).unlink()
    assert not await restore(directory, store, sealer)
    assert not (directory / tls.CA_CERT).exists()


async def test_the_copy_follows_the_files_and_never_a_mixture(tmp_path: Path, store: SqliteStore) -> None:
    directory, sealer = tmp_path / "tls", Sealer(KeyRing((EncryptionKey.new(),)))
    tls.make_ca(directory, "hub-1", NOW)
    await keep_copy(directory, store, sealer)
    tls.make_ca(tmp_path / "next", "hub-1", NOW)
    shutil.copy(tmp_path / "next" / tls.CA_KEY, directory / tls.CA_KEY)  # the key is there, the certificate is not yet
    assert not await keep_copy(directory, store, sealer)
    shutil.copy(tmp_path / "next" / tls.CA_CERT, directory / tls.CA_CERT)
    assert await keep_copy(directory, store, sealer)
    found = await store.get(PLACE)
    assert found is not None
    assert sealer.open(PLACE, escrow.FIELD, found.spec[escrow.FIELD]) == (directory / tls.CA_KEY).read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
async def test_what_is_written_beside_a_ca_is_not_copied(tmp_path: Path, store: SqliteStore, encoding: str) -> None:
    directory, sealer = tmp_path / "tls", Sealer(KeyRing((EncryptionKey.new(),)))
    tls.make_ca(directory, "hub-1", NOW)
    made = files(directory)
    (directory / tls.CA_CERT).write_bytes("# Büro\n".encode(encoding) + made[0])
    assert await keep_copy(directory, store, sealer)
    assert not await keep_copy(directory, store, sealer)
    assert not await escrow.is_foreign(directory, store)
    shutil.rmtree(directory)
    assert await restore(directory, store, sealer)
    assert files(directory) == made


async def test_the_ca_of_another_hub_is_never_followed(tmp_path: Path) -> None:
    """A database that is restored behind the `init` of a new hub, as the chart's init container runs it."""
    made, new = await bootstrap.initialise(tmp_path / "hub"), await bootstrap.initialise(tmp_path / "new")
    carotation.begin(made.data / tls.DIRECTORY, NOW)
    carotation.switch(made.data / tls.DIRECTORY)  # the next CA is this hub's too
    store = await SqliteStore.open(made.data / FILE_NAME)
    await Keeper(made.data, None, store).unlock()
    await store.close()
    ca = files(made.data / tls.DIRECTORY)
    for name in (FILE_NAME, "encryption.key"):
        shutil.copy(made.data / name, new.data / name)
    store = await SqliteStore.open(new.data / FILE_NAME)
    keeper = Keeper(new.data, None, store)
    for _ in range(2):
        with pytest.raises(KeysUnusable, match=f"{new.data / tls.DIRECTORY} holds the CA of another hub.* Remove"):
            await keeper.unlock()
    assert not await keep_copy(new.data / tls.DIRECTORY, store, keeper.sealer)  # of a hub that ran already
    shutil.rmtree(new.data / tls.DIRECTORY)
    await keeper.unlock()
    assert files(new.data / tls.DIRECTORY) == ca
    await store.close()


async def test_a_ca_of_the_operators_own_making_is_followed(tmp_path: Path, store: SqliteStore) -> None:
    directory, sealer = tmp_path / "tls", Sealer(KeyRing((EncryptionKey.new(),)))
    tls.make_ca(directory, "hub-1", NOW)
    await keep_copy(directory, store, sealer)
    key, own = tls.new_ca(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ours")]), NOW)
    (directory / tls.CA_KEY).write_bytes(tls.key_pem(key))
    (directory / tls.CA_CERT).write_bytes(own.public_bytes(Encoding.PEM))
    assert not await escrow.is_foreign(directory, store)
    assert await keep_copy(directory, store, sealer)
    await store.put(Resource(Key("hub", "", "self"), {"id": "hub-1"}))
    for number in range(2):
        shutil.rmtree(directory)
        tls.make_ca(directory, f"hub-{number + 1}", NOW)
        assert await escrow.is_foreign(directory, store) == (number > 0)  # its own may be put back, another's not
        assert await keep_copy(directory, store, sealer) == (number == 0)
    (directory / tls.CA_CERT).write_bytes(b"damaged")
    assert not await escrow.is_foreign(directory, store)  # for others to say


async def test_what_the_copy_is_of_is_never_another_hubs(tmp_path: Path, store: SqliteStore) -> None:
    """A database from before there was a copy took the one of the CA that it met: its agents know that one now."""
    directory, sealer = tmp_path / "tls", Sealer(KeyRing((EncryptionKey.new(),)))
    await store.put(Resource(Key("hub", "", "self"), {"id": "hub-1"}))
    tls.make_ca(directory, "hub-2", NOW)
    assert await keep_copy(directory, store, sealer)
    assert not await escrow.is_foreign(directory, store)
    shutil.rmtree(directory)
    assert await restore(directory, store, sealer)
    assert not await escrow.is_foreign(directory, store)


async def adopted(tmp_path: Path) -> tuple[SqliteStore, Path]:
    """A hub that took over another one's CA before there was a copy; its store and data directory."""
    made, other = await bootstrap.initialise(tmp_path / "hub"), await bootstrap.initialise(tmp_path / "other")
    shutil.rmtree(made.data / tls.DIRECTORY)
    shutil.copytree(other.data / tls.DIRECTORY, made.data / tls.DIRECTORY)
    store = await SqliteStore.open(made.data / FILE_NAME)
    await store.delete(PLACE)
    await Keeper(made.data, None, store).unlock()
    return store, made.data


async def test_a_ca_that_was_taken_over_is_rotated_like_ones_own(tmp_path: Path) -> None:
    """Its successors have the name of the hub that it was made for; their key is nowhere but here."""
    store, data = await adopted(tmp_path)
    directory = data / tls.DIRECTORY
    for _ in range(2):
        carotation.begin(directory, NOW)
        for step in (None, carotation.switch, carotation.retire):
            if step is not None:
                step(directory)
            keeper = Keeper(data, None, store)
            await keeper.unlock()
            assert not await keep_copy(directory, store, keeper.sealer)  # it was brought up to date
            found = await store.get(PLACE)
            assert found is not None
            key = keeper.sealer.open(PLACE, escrow.FIELD, found.spec[escrow.FIELD])
            assert (str(found.spec["certificate"]).encode(), key) == files(directory)
    third = await bootstrap.initialise(tmp_path / "third")
    shutil.rmtree(directory)
    shutil.copytree(third.data / tls.DIRECTORY, directory)
    with pytest.raises(KeysUnusable, match="holds the CA of another hub"):
        await Keeper(data, None, store).unlock()
    await store.close()


async def test_a_copy_that_was_left_behind_by_a_rotation_follows_at_the_next_start(tmp_path: Path) -> None:
    """Versions before did so with a CA that was taken over, and this start was refused."""
    store, data = await adopted(tmp_path)
    directory = data / tls.DIRECTORY
    carotation.begin(directory, NOW)
    carotation.switch(directory)
    carotation.retire(directory)
    ca = files(directory)
    keeper = Keeper(data, None, store)
    await keeper.unlock()
    shutil.rmtree(directory)
    await keeper.unlock()
    assert files(directory) == ca
    await store.close()


async def test_the_database_and_the_key_file_are_a_whole_backup(tmp_path: Path) -> None:
    made = await bootstrap.initialise(tmp_path / "hub")
    ca, copy = files(made.data / tls.DIRECTORY), tmp_path / "restored"
    copy.mkdir(mode=0o700)
    for name in (FILE_NAME, "encryption.key"):
        shutil.copy(made.data / name, copy / name)
    store = await SqliteStore.open(copy / FILE_NAME)
    await Keeper(copy, None, store).unlock()
    assert files(copy / tls.DIRECTORY) == ca
    found = await store.get(PLACE)
    assert found is not None
    await store.put(dataclasses.replace(found, spec={**found.spec, escrow.FIELD: {}}))
    shutil.rmtree(copy / tls.DIRECTORY)
    with pytest.raises(KeysUnusable, match="its copy does not open"):
        await Keeper(copy, None, store).unlock()
    await store.close()
