"""The first run: everything private, everything once, and an interrupted one can be finished."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hub import bootstrap, tls
from hub.auth import bearer
from hub.auth.authenticate import Authenticator
from hub.auth.bearer import Bearer
from hub.auth.grants import GrantIndex, Role
from hub.auth.tokens import TokenIndex
from hub.clock import wall_clock
from hub.store.index import Follower
from hub.store.model import Document, Resource
from hub.store.sqlite import FILE_NAME, LOCK_NAME, SqliteStore
from proto import pins
from tests.hub.auth.records import grant


def modes(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}


async def is_admin(data: Path, token: str) -> bool:
    store = await SqliteStore.open(data / FILE_NAME)
    try:
        tokens, grants = TokenIndex(), GrantIndex()
        await Follower(store, [tokens, grants]).load()
        return Authenticator(tokens, grants, wall_clock).authenticate(Bearer(token.encode())).is_admin
    finally:
        await store.close()


async def test_a_new_hub(tmp_path: Path) -> None:
    made = await bootstrap.initialise(tmp_path / "deep" / "hub", public_url="https://hub.example.org")
    data = made.data
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    found = modes(data)
    assert found.pop("tls") == 0o700
    assert set(found.values()) == {0o600}
    assert made.ca_pin == pins.pins_of_pem(made.ca_file.read_bytes())[0]
    assert 'public_url = "https://hub.example.org"' in (data / "hub.toml").read_text()
    assert bearer.parse(made.admin_token.encode()) is not None
    assert made.admin_token not in repr(made)
    assert await is_admin(data, made.admin_token)
    content = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert made.admin_token.split("_")[2].encode() not in content


async def test_only_once(tmp_path: Path) -> None:
    made = await bootstrap.initialise(tmp_path / "hub")
    before = made.ca_file.read_bytes()
    with pytest.raises(bootstrap.SetupError, match="initialised already"):
        await bootstrap.initialise(tmp_path / "hub")
    assert made.ca_file.read_bytes() == before


async def test_the_token_may_go_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    made = await bootstrap.initialise(tmp_path / "hub", token_file=file)
    assert file.read_text() == f"{made.admin_token}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(bootstrap.SetupError, match="exists already"):
        await bootstrap.initialise(tmp_path / "other", token_file=file)
    assert not (tmp_path / "other").exists()


async def test_an_interrupted_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: object) -> str:
        raise OSError("no space")

    monkeypatch.setattr(bootstrap, "make_admin_token", fail)
    with pytest.raises(OSError, match="no space"):
        await bootstrap.initialise(tmp_path / "hub")
    store = await SqliteStore.open(tmp_path / "hub" / FILE_NAME)
    with pytest.raises(bootstrap.SetupError, match="not initialised"):
        await bootstrap.read_hub_id(store)
    await store.close()
    ca = (tmp_path / "hub" / tls.DIRECTORY / tls.CA_CERT).read_bytes()
    monkeypatch.undo()
    made = await bootstrap.initialise(tmp_path / "hub")
    assert made.ca_file.read_bytes() == ca
    assert await is_admin(made.data, made.admin_token)


async def test_a_run_that_ended_before_it_made_the_database_is_finished(tmp_path: Path) -> None:
    data = tmp_path / "hub"
    data.mkdir(mode=0o700)
    (data / LOCK_NAME).touch(mode=0o600)
    made = await bootstrap.initialise(data)
    assert await is_admin(made.data, made.admin_token)
    assert {path.name for path in data.iterdir()} > {LOCK_NAME, FILE_NAME}  # the store's own names


async def test_foreign_directories_are_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "precious").touch()
    (tmp_path / LOCK_NAME).touch()
    with pytest.raises(bootstrap.SetupError, match="holds other files"):
        await bootstrap.initialise(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    with pytest.raises(bootstrap.SetupError, match="holds no hub"):
        bootstrap.require_hub(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"precious", LOCK_NAME}


async def test_a_directory_that_is_too_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir(mode=0o755)
    (tmp_path / "hub").chmod(0o755)
    made = await bootstrap.initialise(tmp_path / "hub")
    assert stat.S_IMODE(made.data.stat().st_mode) == 0o700


async def test_an_operators_settings_are_not_overwritten(tmp_path: Path) -> None:
    made = await bootstrap.initialise(tmp_path / "hub")
    bootstrap._write_config(made.data, "https://other")
    assert "other" not in (made.data / "hub.toml").read_text()


async def test_settings_may_be_there_before_the_hub(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text('log_format = "console"')
    made = await bootstrap.initialise(tmp_path)
    assert await is_admin(made.data, made.admin_token)
    assert (tmp_path / "hub.toml").read_text() == 'log_format = "console"'


async def test_a_further_admin_token_restores_the_grant(tmp_path: Path) -> None:
    made = await bootstrap.initialise(tmp_path / "hub")
    store = await SqliteStore.open(made.data / FILE_NAME)
    await store.delete(bootstrap.grants_key())
    token = await bootstrap.make_admin_token(store, wall_clock, None)
    await store.close()
    assert await is_admin(made.data, token)
    assert await is_admin(made.data, made.admin_token)


@pytest.mark.parametrize(
    "other",
    [
        grant("hub-admin", user="", group="ops").spec(),
        grant("hub-admin", user="bob", role=Role.HUB_ADMIN).spec(),
        grant("hub-admin", user="admin", role=Role.HUB_ADMIN, cluster_uid="uid-a").spec(),
        {"of": "a later version"},
    ],
)
async def test_another_grant_of_that_name_makes_no_administrator(tmp_path: Path, other: Document) -> None:
    made = await bootstrap.initialise(tmp_path / "hub")
    store = await SqliteStore.open(made.data / FILE_NAME)
    await store.delete(bootstrap.grants_key())
    await store.put(Resource(bootstrap.grants_key(), other))
    for _ in range(2):
        token = await bootstrap.make_admin_token(store, wall_clock, None)
    found = (await store.list("grant")).items
    await store.close()
    assert await is_admin(made.data, token)
    assert [item.spec for item in found if item.key == bootstrap.grants_key()] == [other]
    assert len(found) == 2  # the second token found the grant of the first one
