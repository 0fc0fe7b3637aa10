"""`riata tokens`: a secret is shown once, on standard output or in a file of mode 0600."""

import json
import pathlib
import stat

import pytest

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import FakeHub

SECRET = "riata_t000000001_" + "0" * 64


async def test_create_prints_the_bare_token_and_messages_go_elsewhere(riata: Riata, hub: str, fake: FakeHub) -> None:
    result = await riata(
        "tokens", "create", "ci", "--user", "bot", "--group", "g", "--cluster", "a", "--expires-in", "2h"
    )
    assert result.out == SECRET + "\n"
    assert SECRET not in result.err
    assert fake.calls[-1][2] == {
        **{"name": "ci", "user": "bot", "groups": ["g"], "clusters": ["a"]},
        **{"expiresInSeconds": 7200},
    }


async def test_create_writes_the_token_to_a_file_and_only_there(riata: Riata, hub: str, home: pathlib.Path) -> None:
    path = home / "secret"
    result = await riata("tokens", "create", "ci", "--write-token", str(path), "-o", "json")
    assert path.read_text() == SECRET + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "token" not in json.loads(result.out)
    assert SECRET not in result.out + result.err


@pytest.mark.parametrize("command", [("tokens", "ci"), ("agent-tokens", "a"), ("join-tokens", "a")])
async def test_no_token_is_made_for_a_place_that_is_taken(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path, command: tuple[str, str]
) -> None:
    """In /tmp it is another user's file, or a link: root's new secret would become theirs."""
    noun, name = command
    (home / "file").write_text("theirs")
    (home / "link").symlink_to(home / "elsewhere")
    for path in (home / "file", home / "link"):
        result = await riata(noun, "create", name, "--write-token", str(path))
        assert result.code == 2
        assert f"{path} exists already" in result.err
        assert "remove this one first" in result.err
    assert fake.calls == []
    assert (home / "file").read_text() == "theirs"
    assert not (home / "elsewhere").exists()


async def test_list_and_revoke(riata: Riata, hub: str, fake: FakeHub) -> None:
    await riata("tokens", "create", "ci", "--cluster", "a")
    assert (await riata("tokens", "list")).out == (
        "ID           NAME   USER    GROUPS   CLUSTERS   EXPIRES\n"
        "t000000001   ci     admin   -        a          2026-12-02T04:00:00Z\n"
    )
    assert (await riata("tokens", "revoke", "t000000001")).code == 0
    assert (await riata("tokens", "revoke", "t000000001")).code == 4


async def test_what_was_made_with_a_stolen_token_is_revoked_with_it(riata: Riata, hub: str, fake: FakeHub) -> None:
    for _ in range(3):
        await riata("tokens", "create", "ci")
    fake.tokens["t000000002"]["createdWith"] = "t000000001"
    result = await riata("tokens", "revoke", "t000000001", "--with-descendants", "--yes")
    assert (result.code, result.out) == (0, "")
    assert result.err == "token t000000001 revoked\ntoken t000000002 revoked (made with t000000001)\n"
    assert list(fake.tokens) == ["t000000003"]
    assert (await riata("tokens", "revoke", "t000000001", "--with-descendants")).code == 4


async def test_what_would_end_is_shown_first_and_wants_a_yes(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an administrator's token everybody's may have been made."""
    for user in ("ann", "bob", "bob"):
        await riata("tokens", "create", "ci", "--user", user)
    fake.tokens["admin00000"] = {"id": "admin00000", "user": "admin"}
    for name in ("t000000001", "t000000002", "t000000003"):
        fake.tokens[name]["createdWith"] = "admin00000"
    revoke = ("tokens", "revoke", "admin00000", "--with-descendants")
    nobody = await riata(*revoke)
    shown = "4 tokens would end: 2 of bob, 1 of ann, 1 of admin\nthe one that you are logged in with is among them\n"
    assert nobody.err.startswith(shown)
    assert "add --yes" in nobody.err
    assert (nobody.code, len(fake.tokens)) == (2, 4)
    questions: list[str] = []
    monkeypatch.setattr("ctl.terminal.confirm", questions.append)
    assert (await riata(*revoke)).code == 0
    assert (questions, fake.tokens) == (["Revoke them?"], {})


async def test_a_malformed_duration_is_a_usage_error(riata: Riata, hub: str, fake: FakeHub) -> None:
    assert (await riata("tokens", "create", "ci", "--expires-in", "1 week")).code == 2
    assert fake.calls == []


@pytest.mark.parametrize(
    "command",
    [
        ("tokens", "revoke", SECRET),
        ("join-tokens", "revoke", "a", SECRET.replace("riata_", "riatajoin_")),
        ("agent-tokens", "revoke", "a", SECRET.replace("riata_", "riataagent_")),
        ("agent-tokens", "revoke", SECRET, "a"),
    ],
)
async def test_a_whole_token_in_place_of_its_id_is_never_sent(
    riata: Riata, hub: str, fake: FakeHub, command: tuple[str, ...]
) -> None:
    result = await riata(*command)
    assert (result.code, fake.calls) == (2, [])
    assert "use the id alone: t000000001" in result.err
    assert "0" * 64 not in result.out + result.err
