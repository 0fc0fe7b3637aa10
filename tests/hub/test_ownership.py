"""What root writes for a hub that runs as another user is that user's to read; and a hub that may not read says so."""

from __future__ import annotations

import datetime
import errno
import os
from pathlib import Path

import pytest

from hub import bootstrap, carotation, ownership, sealing, tls
from hub.store import keyfile
from hub.store.keyfile import EncryptionKey
from hub.store.sqlite import FILE_NAME, SqliteStore

HUB = 65_532
OTHER = 65_533
NOW = datetime.datetime.now(datetime.UTC)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of the hub's user."""
    made = tmp_path / "hub"
    made.mkdir(mode=0o700)
    os.chown(made, HUB, HUB)
    return made


def owners(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(directory)): (path.stat().st_uid, path.stat().st_gid) for path in directory.rglob("*")}


def strangers(directory: Path) -> list[str]:
    """What is not the hub's."""
    return [name for name, owner in owners(directory).items() if owner != (HUB, HUB)]


@as_root
async def test_what_root_sets_up_in_the_directory_of_a_user_is_that_users(place: Path, tmp_path: Path) -> None:
    made = await bootstrap.initialise(place, token_file=place / "admin.token")
    store = await SqliteStore.open(made.data / FILE_NAME)
    assert set(owners(place)) > {"hub.db", "hub.db.lock", "hub.db-wal", "encryption.key", "hub.toml", "tls/ca.key"}
    assert strangers(place) == ["admin.token"]  # a token is whose command asked for it
    await store.close()


@as_root
async def test_keys_and_ca_that_root_rotates_stay_the_hubs(place: Path) -> None:
    await bootstrap.initialise(place)
    directory = place / tls.DIRECTORY
    for step in (lambda: carotation.begin(directory, NOW), lambda: carotation.switch(directory)):
        sealing.rotate(place / sealing.FILE_NAME)
        step()
        with carotation.locked(directory):
            tls.ensure_leaf(directory, ["localhost"], NOW, carotation.chain(directory))
        assert strangers(place) == []
    carotation.retire(directory)
    assert strangers(place) == []
    assert "tls/.rotation.lock" in owners(place)


@as_root
def test_a_file_that_is_replaced_stays_whose_it_was_unless_it_was_roots(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"  # in a directory of root's, as /etc
    tls.write_private(file, b"one")
    os.chown(file, OTHER, HUB)
    tls.write_private(file, b"two")
    assert owners(tmp_path)["keys"] == (OTHER, HUB)
    (place / "keys").write_bytes(b"of an earlier version, for a hub that cannot read it")
    tls.write_private(place / "keys", b"three")
    assert strangers(place) == []


@as_root
async def test_a_key_file_that_the_hub_reads_by_its_group_stays_so(place: Path, tmp_path: Path) -> None:
    """`encryption_key_file` in /etc, root:riata 0640; rotated by root it was root's alone, and the hub had its key only
    until the next start."""
    file, data = tmp_path / "encryption.key", place / "data"
    file.write_bytes(keyfile.render([EncryptionKey.new()]))
    os.chown(file, 0, HUB)
    file.chmod(0o644)
    await bootstrap.initialise(data, key_file=file)
    assert len(sealing.rotate(file).keys) == 2
    assert (owners(tmp_path)["encryption.key"], file.stat().st_mode & 0o777) == ((0, HUB), 0o640)
    file.chmod(0o600)
    os.chown(file, OTHER, HUB)
    sealing.rotate(file)
    assert (owners(tmp_path)["encryption.key"], file.stat().st_mode & 0o777) == ((OTHER, HUB), 0o600)


@as_root
def test_a_group_that_cannot_be_kept_may_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "encryption.key"
    file.write_bytes(keyfile.render([EncryptionKey.new()]))
    os.chown(file, OTHER, HUB)
    file.chmod(0o640)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)

    def is_no_member(*_of: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", is_no_member)
    sealing.rotate(file)
    assert (owners(tmp_path)["encryption.key"], file.stat().st_mode & 0o777) == ((0, 0), 0o600)


@as_root
def test_root_gives_away_nothing_that_it_has_not_made(place: Path, tmp_path: Path) -> None:
    """The owner of the directory may have put it there."""
    secret = tmp_path / "shadow"
    secret.touch(mode=0o600)
    (place / "a").symlink_to(secret)
    (place / "b").touch(mode=0o600)
    (place / "c").symlink_to(tmp_path)
    for name in "ab":
        os.close(ownership.open_private(place / name))
    ownership.make_directory(place / "c")
    (place / "d").symlink_to(secret)
    tls.write_private(place / "d", b"")  # takes the link's place
    assert (secret.stat().st_uid, (place / "b").stat().st_uid, tmp_path.stat().st_uid) == (0, 0, 0)
    assert (place / "d").lstat().st_uid == HUB


@as_root
def test_nothing_changes_for_other_users(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tls.write_private(place / "file", b"")
    ownership.make_directory(place / "directory")
    os.close(ownership.open_private(place / "lock"))
    assert set(owners(place).values()) == {(0, 0)}


def test_a_file_in_the_place_of_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "tls").touch()
    with pytest.raises(FileExistsError):
        ownership.make_directory(tmp_path / "tls")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process runs as the hub's user, as far as it is asked."""
    monkeypatch.setattr(os, "geteuid", lambda: HUB)
    monkeypatch.setattr(os, "getegid", lambda: HUB)


@pytest.mark.usefixtures("hub")
def test_who_may_not_open_what_and_the_cure(tmp_path: Path) -> None:
    file, own = tmp_path / "encryption.key", os.stat(tmp_path).st_uid
    file.touch(mode=0o600)
    assert ownership.closed(file) == (
        f"user 65532 may not open it (it belongs to user {own}, mode 0600); if the hub is to run as user 65532:"
        f" chown 65532:65532 {file}"
    )
    assert ownership.closed(file, tmp_path).endswith(f"chown -R 65532:65532 {tmp_path}")
    assert ownership.closed(tmp_path / "away" / "key") == (
        f"user 65532 may not open it (its directory is closed); let that user into {tmp_path / 'away'}"
    )
