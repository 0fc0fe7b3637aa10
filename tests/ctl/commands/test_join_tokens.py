"""`riata join-tokens`."""

import json
import pathlib

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import FakeHub

SECRET = "riatajoin_t000000001_" + "0" * 64


async def test_create_list_revoke(riata: Riata, hub: str, fake: FakeHub) -> None:
    made = await riata("join-tokens", "create", "a")
    assert made.out == SECRET + "\n"
    assert "join token of cluster a t000000001 made" in made.err
    assert fake.calls[-1] == ("POST", "/v1/clusters/a/join-tokens", {})
    assert (await riata("join-tokens", "list", "a")).out.splitlines()[1].split() == [
        "t000000001", "2026-11-25T04:00:00Z", "2026-12-02T04:00:00Z", "-",
    ]  # fmt: skip
    assert (await riata("join-tokens", "revoke", "a", "t000000001")).code == 0
    assert (await riata("join-tokens", "list", "a", "-o", "json")).out == '{\n  "items": []\n}\n'


async def test_into_a_file_and_nowhere_else(riata: Riata, hub: str, fake: FakeHub, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "join.token"
    made = await riata("join-tokens", "create", "a", "--expires-in", "1h", "--write-token", str(file), "-o", "json")
    assert fake.calls[-1][2] == {"expiresInSeconds": 3600}
    assert file.read_text() == SECRET + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "token" not in json.loads(made.out)
    assert SECRET not in made.out + made.err
