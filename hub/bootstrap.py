"""The first run: data directory, identity, CA, database, and one administrator's token that is shown once."""

from __future__ import annotations

import dataclasses
import datetime
import os
import secrets
import uuid
from pathlib import Path
from typing import Final

from hub import sealing, tls
from hub.auth import grants
from hub.auth import tokens as user_tokens
from hub.clock import Clock, wall_clock
from hub.config import FILE_NAME as CONFIG_FILE_NAME
from hub.escrow import HUB
from hub.store.interface import Store
from hub.store.model import Key, Resource
from hub.store.sqlite import FILE_NAME, LOCK_NAME, SqliteStore
from proto import pins

ADMIN_USER: Final = "admin"
ADMIN_GRANT: Final = "hub-admin"
ADMIN_TOKEN_LIFETIME_S: Final = 365 * 86_400.0
"""A year: the first token is for setting the hub up; `riata-hub admin-token` makes another one."""


class SetupError(Exception):
    """The hub cannot be set up, or is not. The text has the cure."""


@dataclasses.dataclass(frozen=True, slots=True)
class Initialised:
    """What `init` made. `admin_token` is the only copy of the secret, unless it was written to a file."""

    hub_id: str
    data: Path
    ca_file: Path
    ca_pin: str
    admin_token: str = dataclasses.field(repr=False)


async def initialise(
    data: Path,
    *,
    public_url: str = "",
    token_file: Path | None = None,
    key_file: Path | None = None,
    clock: Clock = wall_clock,
) -> Initialised:
    """Set up `data`. An attempt that was interrupted is finished; a finished one raises SetupError.

    Raises StoreError, TlsError, OSError.
    """
    refuse_existing(token_file)
    if key_file is not None:
        sealing.read(key_file, is_sealed=False)
    _refuse_foreign(data)
    make_private_directory(data)
    store = await SqliteStore.open(data / FILE_NAME, clock=clock)
    try:
        record = await store.get(HUB)
        if record is not None and record.status.get("phase") == "ready":
            raise SetupError(
                f"{data} is initialised already; `riata-hub admin-token` makes a new administrator's token"
            )
        if record is None:
            spec = {"id": str(uuid.uuid4()), "createdAt": clock()}
            record = await store.put(Resource(HUB, spec, {"phase": "initialising"}))
        hub_id = str(record.spec["id"])
        ca_file = data / tls.DIRECTORY / tls.CA_CERT
        if not ca_file.exists():
            tls.make_ca(data / tls.DIRECTORY, hub_id, datetime.datetime.fromtimestamp(clock(), datetime.UTC))
        await sealing.Keeper(data, key_file, store).unlock()
        _write_config(data, public_url)
        token = await make_admin_token(store, clock, token_file)
        await store.put(Resource(HUB, record.spec, {"phase": "ready"}, record.uid, record.revision))
    finally:
        await store.close()
    return Initialised(hub_id, data, ca_file, pins.pins_of_pem(ca_file.read_bytes())[0], token)


async def is_initialised(data: Path) -> bool:
    """Whether `initialise` once came to its end there. Touches nothing. Raises StoreError."""
    if not (data / FILE_NAME).is_file():
        return False
    store = await SqliteStore.open(data / FILE_NAME)
    try:
        record = await store.get(HUB)
    finally:
        await store.close()
    return record is not None and record.status.get("phase") == "ready"


def require_hub(data: Path) -> None:
    """Raises SetupError when nothing was ever set up there: no directory must come into being by a mistyped path."""
    if not (data / FILE_NAME).is_file():
        raise SetupError(f"{data} holds no hub: run `riata-hub init --data {data}` first")


def _refuse_foreign(data: Path) -> None:
    """A directory that holds other things is not ours to close for others. The lock file alone is what an attempt left
    that was killed before it made the database; settings may be written before there is a hub."""
    if not data.is_dir() or (data / FILE_NAME).exists():
        return
    if any(path.name not in {LOCK_NAME, CONFIG_FILE_NAME} for path in data.iterdir()):
        raise SetupError(f"{data} holds other files: name a new or an empty directory")


def refuse_existing(token_file: Path | None) -> None:
    """Before anything is made: the only copy of a token must have a place. Raises SetupError."""
    if token_file is not None and token_file.exists():
        raise SetupError(f"{token_file} exists already: name a file that does not")


async def read_hub_id(store: Store) -> str:
    """Raises SetupError when the hub was not initialised."""
    record = await store.get(HUB)
    if record is None or record.status.get("phase") != "ready":
        raise SetupError("the hub is not initialised: run `riata-hub init` with the same --data first")
    return str(record.spec["id"])


async def make_admin_token(store: Store, clock: Clock, token_file: Path | None) -> str:
    """A new token of the user `admin`, whose grant of hub administration is made if it is gone. Written to the file
    (0600) when one is given. Raises FileExistsError."""
    await _make_admin(store, clock)
    _, minted, _ = await user_tokens.Tokens(store, clock).create(
        name="bootstrap", user=ADMIN_USER, lifetime_s=ADMIN_TOKEN_LIFETIME_S, created_by="init"
    )
    if token_file is not None:
        tls.write_private(token_file, f"{minted.text}\n".encode(), is_new=True, is_hubs=False)
    return minted.text


async def _make_admin(store: Store, clock: Clock) -> None:
    """A grant is an administrator's by what it says: of the name, people may have made another one."""
    taken = (await store.list(grants.KIND)).items
    if any(_administers(item) for item in taken):
        return
    is_free = all(item.key.name != ADMIN_GRANT for item in taken)
    name = ADMIN_GRANT if is_free else f"{ADMIN_GRANT}-{secrets.token_hex(4)}"
    grant = grants.Grant(
        name, ADMIN_USER, "", grants.EVERY_CLUSTER, grants.Role.HUB_ADMIN, created_at=clock(), created_by="init"
    )
    await grants.Grants(store).create(grant)


def _administers(item: Resource) -> bool:
    """A record that this version cannot read gives nothing."""
    try:
        grant = grants.Grant.of(item)
    except (KeyError, TypeError, ValueError):
        return False
    is_everywhere = grant.cluster_uid == grants.EVERY_CLUSTER
    return grant.user == ADMIN_USER and grant.role is grants.Role.HUB_ADMIN and is_everywhere


def grants_key() -> Key:
    """Where the first administrator's grant is."""
    return Key(grants.KIND, "", ADMIN_GRANT)


def make_private_directory(path: Path) -> None:
    """Make a directory for its owner only, or make an existing one so. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        os.chmod(path, 0o700)


def _write_config(data: Path, public_url: str) -> None:
    """The place where an operator looks for settings; an existing file is theirs."""
    file = data / CONFIG_FILE_NAME
    if file.exists():
        return
    url = f'public_url = "{public_url}"\n' if public_url else '# public_url = "https://hub.example.org"\n'
    text = f"# Settings of this hub. docs/reference/config.md has all of them; flags and environment go first.\n{url}"
    tls.write_private(file, text.encode())
