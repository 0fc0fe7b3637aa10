"""A dump of the database holds no secret: canaries after a whole life of a hub (facts/security.md J1, G5). Needs no
Kubernetes."""

import base64
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agent.keys import KeyFile
from hub.store import keyfile
from proto.credentials import public_key
from tests.e2e.test_failpoints import Life, life
from tests.harness import tools
from tests.harness.commands import execute

pytestmark = [pytest.mark.timeout(180)]


async def secrets_of(a_life: Life) -> dict[str, bytes]:
    """Everything that opens something."""
    api, data = a_life.api, a_life.directory / "data"
    await a_life.create()
    await a_life.make_token()
    found = {"join token": (a_life.directory / "join.token").read_bytes()}
    await a_life.join()
    found["first key"] = await seed(a_life)
    await a_life.rotate()
    found["second key"] = await seed(a_life)
    assert found["first key"] != found["second key"]
    found["agent token"] = (await api.agent_token("victim")).encode()
    found["unused join token"] = (await api.join_token("victim")).encode()
    found["user token"] = (await api.user_token("t", user="jane")).encode()
    manifest = await api.call("POST", "/v1/clusters/victim/manifest", {})
    (found["token in a manifest"],) = (
        word.strip('"').encode() for word in manifest["manifest"].split() if word.strip('"').startswith("riatajoin_")
    )
    found["administrator's token"] = (a_life.directory / "admin.token").read_bytes().strip()
    for name in ("ca.key", "hub.key"):
        key = load_pem_private_key((data / "tls" / name).read_bytes(), None)
        found[name] = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ring = keyfile.parse((data / "encryption.key").read_bytes())
    found |= {f"encryption key {number}": key.value for number, key in enumerate(ring.keys)}
    return found


async def seed(a_life: Life) -> bytes:
    state = (await KeyFile(a_life.directory / "agent.key").load()).state
    assert state is not None
    return state.current.seed


def spellings(secret: bytes) -> Iterator[bytes]:
    """How a secret would look in a dump; of a token the part that is secret."""
    bare = secret.strip().rsplit(b"_", 1)[-1] if secret.startswith(b"riata") else secret
    yield bare
    yield bare.hex().encode()
    yield bare.hex().upper().encode()
    for text in (base64.b64encode(bare), base64.urlsafe_b64encode(bare)):
        yield text.rstrip(b"=")[:-2]
    with contextlib.suppress(ValueError):
        yield bytes.fromhex(bare.decode("ascii", "replace"))


def dumped(data: Path) -> bytes:
    """The files of the database as they lie there, and what SQL shows."""
    raw = b"".join(path.read_bytes() for path in sorted(data.glob("hub.db*")))
    with contextlib.closing(sqlite3.connect(f"file:{data / 'hub.db'}?mode=ro", uri=True)) as database:
        return raw + "\n".join(database.iterdump()).encode()


def hits(secrets: dict[str, bytes], dump: bytes) -> list[str]:
    return [name for name, secret in secrets.items() if any(each in dump for each in spellings(secret))]


async def test_a_dump_of_the_database_holds_no_secret() -> None:
    async with life("at-rest") as a_life:
        await a_life.serve("0:")
        secrets = await secrets_of(a_life)
        data = a_life.directory / "data"
        live = dumped(data)
        assert public_key(secrets["second key"]).hex().encode() in live  # the search finds what is there …
        assert hits({**secrets, "canary": b"victim"}, live) == ["canary"]  # … and nothing that opens anything
        log = (a_life.directory / "hub.log").read_bytes()
        assert hits(secrets, log) == []
        await a_life.delete()
        await a_life.stop()
        assert hits(secrets, dumped(data)) == []


async def test_keys_rotate_under_a_running_hub_and_a_lost_one_ends_the_start() -> None:
    async with life("key-rotation") as a_life:
        await a_life.serve("0:")
        data = a_life.directory / "data"
        program = [*tools.console_script("riata-hub", "hub"), "keys"]
        listed = (await execute([*program, "list", "--data", str(data)], timeout=60)).check().stdout
        assert listed.count("encrypts") == 1
        assert "  2" in listed  # the check and the CA's copy
        (await execute([*program, "rotate", "--data", str(data)], timeout=60)).check()
        early = await execute([*program, "retire", "--data", str(data)], timeout=60)
        assert early.rc == 1
        assert "still sealed" in early.stderr
        await a_life.create()  # it serves all the while
        await a_life.stop()
        keys = (data / "encryption.key").read_bytes()
        for content, says in ((b"", "is empty"), (base64.b64encode(b"short"), "has 5 bytes")):
            (data / "encryption.key").write_bytes(content)
            command = [*tools.console_script("riata-hub", "hub"), "serve", "--data", str(data)]
            refused = await execute(command, timeout=60)
            assert (refused.rc, says in refused.stderr) == (1, True)
        (data / "encryption.key").write_bytes(keys)
        await a_life.serve("0:")
        await a_life.delete()


async def test_a_backup_of_a_running_hub_is_the_hub_again() -> None:
    """What was acknowledged a moment before is in it, and the hub is killed behind it."""
    async with life("backup") as a_life:
        await a_life.serve("0:")
        data, program = a_life.directory / "data", tools.console_script("riata-hub", "hub")
        await a_life.create()
        await a_life.grant()
        ca = (data / "tls" / "ca.crt").read_bytes()
        (await execute([*program, "backup", str(a_life.directory / "copy"), "--data", str(data)], timeout=60)).check()
        assert a_life.child is not None
        a_life.child.kill()
        await a_life.stop()
        kept = (data / "encryption.key").read_bytes()
        shutil.rmtree(data)
        data.mkdir(mode=0o700)
        shutil.copy(a_life.directory / "copy", data / "hub.db")
        (data / "encryption.key").write_bytes(kept)
        await a_life.serve("0:")
        assert a_life.records()["grant"] == 2
        assert (data / "tls" / "ca.crt").read_bytes() == ca
        await a_life.delete()
