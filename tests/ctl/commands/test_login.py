"""`riata login`, `logout`, `whoami`: over TLS with a CA of its own, and what is kept where."""

import io
import pathlib
import stat

import pytest
import trustme

from ctl import logins
from proto import pins
from tests.ctl.conftest import Riata
from tests.ctl.fakehub import ADMIN, FakeHub, status


def _files(home: pathlib.Path, ca: trustme.CA, token: str = ADMIN) -> tuple[str, ...]:
    (home / "ca.crt").write_bytes(ca.cert_pem.bytes())
    (home / "token").write_text(token)
    return ("--ca-file", str(home / "ca.crt"), "--token-file", str(home / "token"))


async def test_login_checks_and_keeps_a_copy_in_a_private_file(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA
) -> None:
    given = _files(home, ca)
    pin = pins.pins_of_pem(ca.cert_pem.bytes())[0]
    result = await riata("login", "--hub", tls + "/", *given, "--ca-pin", pin)
    assert result.code == 0, result.err
    assert result.out.splitlines()[1].split() == ["admin", "ops", "yes", tls]
    kept = home / ".config" / "riata" / "config.yaml"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (home / "ca.crt").unlink()
    (home / "token").unlink()
    assert (await riata("whoami", "-o", "name")).out == "admin\n"
    assert ADMIN not in result.out + result.err


async def test_the_token_comes_from_standard_input(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    *given, _ = _files(home, ca)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ADMIN.encode() + b"\n")))
    assert (await riata("login", "--hub", tls, *given, "-")).code == 0
    assert (await riata("whoami", "-o", "name")).out == "admin\n"


async def test_another_ca_is_refused_before_the_token_is_sent(
    riata: Riata, home: pathlib.Path, tls: str, fake: FakeHub
) -> None:
    result = await riata("login", "--hub", tls, *_files(home, trustme.CA()))
    assert result.code == 5
    assert "does not come from the CA of this login" in result.err
    assert (
        "its new CA (riata login --hub URL --ca-file FILE --token-file FILE, with the --profile that is to have it);"
        in result.err
    )
    assert fake.calls == []
    assert not (home / ".config").exists()


async def test_a_login_that_fails_says_how_the_doctor_looks_at_it(
    riata: Riata, home: pathlib.Path, tls: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of it, so that `riata doctor` alone would look at another login, or find none."""
    other = home / "other ca.crt"
    other.write_bytes(trustme.CA().cert_pem.bytes())
    (home / "token").write_text(ADMIN)
    given = ("--hub", tls, "--ca-file", str(other), "--token-file")
    result = await riata("login", *given, str(home / "token"))
    looks = f"RIATA_HUB={tls} RIATA_CA_FILE='{other}' RIATA_TOKEN_FILE={home / 'token'} riata doctor"
    assert f"tried directly; {looks} looks closer\n" in result.err
    monkeypatch.setenv("RIATA_PROFILE", "new")
    assert f"; RIATA_PROFILE= {looks} looks" in (await riata("login", *given, str(home / "token"))).err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ADMIN.encode())))
    assert "tried directly\n" in (await riata("login", *given, "-")).err


async def test_a_login_without_the_hubs_ca_is_told_that_it_is_missing(
    riata: Riata, home: pathlib.Path, tls: str, fake: FakeHub
) -> None:
    (home / "token").write_text(ADMIN)
    result = await riata("login", "--hub", tls, "--token-file", str(home / "token"))
    assert (result.code, fake.calls) == (5, [])
    assert "a CA that this machine trusts, and the login names no other" in result.err
    assert "then riata login --hub URL --ca-file FILE --token-file FILE" in result.err


async def test_a_login_that_lacks_the_ca_which_a_kept_one_has_is_told_so(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA
) -> None:
    """The doctor that was advised looked with that CA, and found all well."""
    assert (await riata("login", "--hub", tls, *_files(home, ca))).code == 0
    result = await riata("login", "--hub", tls, "--token-file", str(home / "token"))
    assert result.code == 5
    assert "tried directly; no --ca-file was given, and profile default has a CA for this hub\n" in result.err
    assert "doctor" not in result.err


async def test_a_url_with_a_wrong_path_is_named_so(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    """It said that one should check the name."""
    fake.answer = status(404, "there is no such path")
    result = await riata("login", "--hub", tls + "/riata", *_files(home, ca))
    assert result.code == 1
    assert "there is no riata hub at this address (404 for /v1/whoami)\n" in result.err
    assert f"tried {tls}/riata\n  next: Check host, port and path prefix" in result.err


async def test_a_wrong_pin_is_refused_before_anything_is_asked(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    result = await riata("login", "--hub", tls, *_files(home, ca), "--ca-pin", "sha256:" + "0" * 64)
    assert (result.code, fake.calls) == (1, [])
    assert "does not match the pin" in result.err
    assert (await riata("login", "--hub", tls, *_files(home, ca), "--ca-pin", "sha256:0")).code == 2


async def test_a_refused_token_is_not_kept(riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA) -> None:
    result = await riata("login", "--hub", tls, *_files(home, ca, "riata_wrong_00"))
    assert result.code == 3
    assert not (home / ".config").exists()


async def test_two_hubs_by_profile_and_logout_forgets_one(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA
) -> None:
    for name in ("one", "two"):
        assert (await riata("login", "--hub", tls, *_files(home, ca), "--profile", name)).code == 0
    assert (await riata("logout")).err.startswith("forgot profile two")
    assert (await riata("whoami")).code == 0
    assert (await riata("whoami", "--profile", "two")).code == 2
    assert (await riata("logout", "--revoke")).code == 4  # the fake does not know the admin token's id
    assert (await riata("logout")).code == 0
    assert (await riata("whoami")).code == 3


@pytest.mark.parametrize("variable", ["", "default"])
async def test_a_login_for_another_hub_is_not_replaced_unasked(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, hub: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Its token may be nowhere else: the first administrator's is deleted where it came from. RIATA_PROFILE, which a
    shell has for all its commands, does not ask for it."""
    monkeypatch.setenv("RIATA_PROFILE", variable)
    assert (await riata("login", "--hub", hub, "--token-file", str(home / "token"))).code == 0
    kept = (file := home / ".config" / "riata" / "config.yaml").read_text()
    other = ("login", "--hub", tls, *_files(home, ca))
    refused = await riata(*other)
    assert (refused.code, file.read_text()) == (7, kept)
    assert f"profile default is a login for {hub}" in refused.err
    assert (await riata("login", "--hub", hub, "--token-file", str(home / "token"))).code == 0, "the same hub, anew"
    assert (await riata(*other, "--profile", "two")).code == 0
    assert set(logins.load(file).hubs) == {"default", "two"}
    assert (await riata(*other, "--profile", "default")).code == 0
    assert {login.hub for login in logins.load(file).hubs.values()} == {tls}


def _annes(fake: FakeHub) -> str:
    fake.tokens["ann0000000"] = {"user": "ann"}
    return "riata_ann0000000_" + "0" * 64


async def test_another_users_login_at_the_same_hub_is_not_replaced_unasked(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    login, file = ("login", "--hub", tls), home / ".config" / "riata" / "config.yaml"
    assert (await riata(*login, *_files(home, ca))).code == 0
    kept, anns = file.read_text(), _files(home, ca, _annes(fake))
    refused = await riata(*login, *anns)
    assert (refused.code, file.read_text()) == (7, kept)
    assert f"profile default is admin's login for {tls}, and this token is ann's" in refused.err
    assert "next: --profile NAME keeps both, --profile default replaces it" in refused.err
    assert (await riata(*login, *anns, "--profile", "ann")).code == 0
    assert (await riata(*login, *anns, "--profile", "default")).code == 0
    assert {each.token for each in logins.load(file).hubs.values()} == {_annes(fake)}


async def test_a_login_of_the_same_user_or_that_has_ended_is_replaced(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    login = ("login", "--hub", tls)
    assert (await riata(*login, *_files(home, ca, _annes(fake)))).code == 0
    fake.tokens["ann0000002"] = {"user": "ann"}
    assert (await riata(*login, *_files(home, ca, "riata_ann0000002_" + "0" * 64))).code == 0
    del fake.tokens["ann0000002"]
    assert (await riata(*login, *_files(home, ca))).code == 0
    assert (await riata("whoami", "-o", "name")).out == "admin\n"


async def test_a_login_that_cannot_be_asked_about_is_not_replaced_unasked(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    """The stored login has another CA: nothing is sent to a hub that it does not know."""
    file = home / ".config" / "riata" / "config.yaml"
    other = logins.Login(hub=tls, ca=trustme.CA().cert_pem.bytes().decode(), token=_annes(fake))
    logins.save(file, logins.LoginFile(current="default", hubs={"default": other}))
    refused = await riata("login", "--hub", tls, *_files(home, ca))
    assert (refused.code, logins.load(file).hubs["default"]) == (7, other)
    assert "whose it is cannot be asked there: cannot reach" in refused.err
    assert len(fake.calls) == 1
    assert (await riata("login", "--hub", tls, *_files(home, ca), "--profile", "default")).code == 0


async def test_a_login_that_came_while_the_hub_was_asked_is_not_lost(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    file = home / ".config" / "riata" / "config.yaml"
    newer = logins.LoginFile(current="default", hubs={"default": logins.Login(hub=tls, token="riata_newer00000_0")})

    async def log_in() -> None:
        logins.save(file, newer)

    async def later() -> None:
        fake.meanwhile = log_in

    assert (await riata("login", "--hub", tls, *_files(home, ca, _annes(fake)))).code == 0
    fake.tokens["ann0000002"] = {"user": "ann"}
    fake.meanwhile = later  # the first question is for the new token, the second for the old one
    refused = await riata("login", "--hub", tls, *_files(home, ca, "riata_ann0000002_" + "0" * 64))
    assert (refused.code, logins.load(file)) == (7, newer)
    assert "another riata changed profile default meanwhile" in refused.err


async def test_a_token_that_has_ended_is_forgotten_when_it_is_to_be_revoked(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    given = ("login", "--hub", tls, *_files(home, ca, _annes(fake)), "--profile", "ann")
    assert (await riata(*given)).code == 0
    fake.busy.append("/v1/tokens/ann0000000")
    busy = await riata("logout", "--revoke", "--profile", "ann")
    assert (busy.code, "forgot" in busy.err) == (1, False)
    assert "`riata logout --profile ann`, without --revoke, forgets it here" in busy.err
    fake.tokens.clear()
    gone = await riata("logout", "--revoke", "--profile", "ann")
    assert gone.code == 0
    assert f"{tls} accepts its token no longer" in gone.err
    assert "forgot profile ann" in gone.err


async def test_a_stored_token_that_no_header_can_carry_is_mended_by_a_login(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA
) -> None:
    file = home / ".config" / "riata" / "config.yaml"
    good, bad = logins.Login(hub="https://a.test", token=ADMIN), logins.Login(hub=tls, token=ADMIN + "\n")
    logins.save(file, logins.LoginFile(current="a", hubs={"a": good, "b": bad}))
    for command in (("whoami",), ("logout", "--revoke")):
        assert (await riata(*command, "--profile", "b")).code == 2
    assert (await riata("login", "--hub", tls, *_files(home, ca), "--profile", "b")).code == 0
    assert (await riata("whoami", "--profile", "b")).code == 0
    assert logins.load(file).hubs["a"] == good


async def test_a_login_made_while_logout_waits_for_the_hub_is_kept(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    given = ("login", "--hub", tls, *_files(home, ca), "--profile")
    assert (await riata(*given, "one")).code == 0
    fake.tokens["admin00000"] = {}
    fake.meanwhile = lambda: riata(*given, "two")
    assert (await riata("logout", "--profile", "one", "--revoke")).code == 0
    assert (await riata("whoami", "--profile", "one")).code == 2
    assert (await riata("whoami")).code == 0


async def test_a_newer_login_of_the_same_name_outlives_the_logout_of_the_older(
    riata: Riata, home: pathlib.Path, tls: str, ca: trustme.CA, fake: FakeHub
) -> None:
    newer = logins.LoginFile(current="default", hubs={"default": logins.Login(hub=tls, token="riata_newer00000_0")})
    file = home / ".config" / "riata" / "config.yaml"

    async def log_in_again() -> None:
        logins.change(file, lambda _: newer)

    assert (await riata("login", "--hub", tls, *_files(home, ca))).code == 0
    fake.tokens["admin00000"] = {}
    fake.meanwhile = log_in_again
    assert (await riata("logout", "--revoke")).code == 0
    assert logins.load(file) == newer


async def test_login_needs_a_hub_and_a_token(riata: Riata) -> None:
    result = await riata("login", "--hub", "https://hub.invalid")
    assert result.code == 2
    assert "--token-file is missing" in result.err


@pytest.mark.parametrize("url", ["hub.example", "ftp://h", "http://hub.example", "https://u:secret@h", "https://h/?q"])
async def test_a_url_that_is_not_a_hub_is_a_usage_error(riata: Riata, home: pathlib.Path, url: str) -> None:
    (home / "token").write_text(ADMIN)
    result = await riata("login", "--hub", url, "--token-file", str(home / "token"))
    assert result.code == 2
    assert "secret" not in result.err
