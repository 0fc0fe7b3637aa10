"""Stored logins and the environment over them."""

import pathlib

import pytest

from ctl import errors, files, logins

TOKEN = "riata_abcdefghij_" + "0" * 64


PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def _store(tmp_path: pathlib.Path, **hubs: logins.Login) -> dict[str, str]:
    env = {"RIATA_CONFIG": str(tmp_path / "c.yaml"), "HOME": str(tmp_path)}
    logins.save(logins.path(env), logins.LoginFile(current=next(iter(hubs), ""), hubs=hubs))
    return env


def test_the_place_of_the_file() -> None:
    assert str(logins.path({"HOME": "/h"})) == "/h/.config/riata/config.yaml"
    assert str(logins.path({"HOME": "/h", "XDG_CONFIG_HOME": "/x"})) == "/x/riata/config.yaml"
    assert str(logins.path({"HOME": "/h", "XDG_CONFIG_HOME": "relative"})) == "/h/.config/riata/config.yaml"
    assert str(logins.path({"RIATA_CONFIG": "f"})) == "f"


def test_what_is_saved_is_loaded(tmp_path: pathlib.Path) -> None:
    login = logins.Login(hub="https://h", ca="-----BEGIN\nX\n", ca_pin="sha256:0", token=TOKEN)
    env = _store(tmp_path, a=login)
    assert logins.resolve(env) == login
    assert "ca: |\n" in (tmp_path / "c.yaml").read_text()


@pytest.mark.parametrize("text", ["[", "- a", "unknown: 1", "hubs: {a: {}}", "a: &a [*a]"])
def test_a_file_that_is_not_ours_is_a_usage_error(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(errors.UsageError):
        logins.resolve({"RIATA_CONFIG": str(tmp_path / "c.yaml")})


def test_a_stored_token_is_never_used_for_another_hub(tmp_path: pathlib.Path) -> None:
    env = _store(tmp_path, a=logins.Login(hub="https://h", ca="CA", token=TOKEN))
    assert logins.resolve({**env, "RIATA_HUB": "https://other"}) == logins.Login(hub="https://other")
    assert logins.resolve({**env, "RIATA_HUB": "https://h/"}).token == TOKEN


def test_a_profile_that_is_typed_is_not_silently_another_hub(tmp_path: pathlib.Path) -> None:
    """`riata clusters delete a --profile prod` in a shell that has RIATA_HUB and RIATA_TOKEN_FILE of another hub."""
    env = _store(tmp_path, prod=logins.Login(hub="https://prod", token=TOKEN))
    with pytest.raises(errors.UsageError, match="RIATA_HUB names https://other"):
        logins.resolve({**env, "RIATA_HUB": "https://other"}, "prod")
    assert logins.resolve({**env, "RIATA_HUB": "https://prod"}, "prod").token == TOKEN
    assert logins.resolve({**env, "RIATA_HUB": "https://other", "RIATA_PROFILE": "prod"}).hub == "https://other"


def test_files_of_the_environment_come_first(tmp_path: pathlib.Path) -> None:
    env = _store(tmp_path, a=logins.Login(hub="https://h", ca="CA", ca_pin="sha256:0", token=TOKEN))
    (tmp_path / "new-ca").write_text(PEM)
    (tmp_path / "new-token").write_text("new-token\n")
    env |= {"RIATA_CA_FILE": str(tmp_path / "new-ca"), "RIATA_TOKEN_FILE": str(tmp_path / "new-token")}
    assert logins.resolve(env) == logins.Login(hub="https://h", ca=PEM, token="new-token")


def test_a_token_that_no_header_can_carry_stops_its_own_login_only(tmp_path: pathlib.Path) -> None:
    """The line end of a YAML block (`token: |`), written by hand."""
    good, bad = logins.Login(hub="https://a", token=TOKEN), logins.Login(hub="https://b", token=TOKEN + "\n")
    env = _store(tmp_path, a=good, b=bad)
    assert logins.resolve(env, "a") == good
    with pytest.raises(errors.UsageError, match=r"the stored token for https://b is not one line") as caught:
        logins.resolve(env, "b")
    assert TOKEN not in caught.value.render()
    (tmp_path / "token").write_text(TOKEN)
    assert logins.resolve({**env, "RIATA_TOKEN_FILE": str(tmp_path / "token")}, "b").token == TOKEN


def test_no_login_is_unauthorised_and_an_unknown_profile_is_a_usage_error(tmp_path: pathlib.Path) -> None:
    env = {"HOME": str(tmp_path)}
    with pytest.raises(errors.CommandError) as caught:
        logins.resolve(env)
    assert caught.value.exit_code == errors.Exit.UNAUTHORIZED
    for extra, profile in (({}, "nope"), ({"RIATA_PROFILE": "nope"}, "")):
        with pytest.raises(errors.UsageError):
            logins.resolve({**env, **extra}, profile)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://h", "https://h"),
        ("https://h:8443/", "https://h:8443"),
        ("https://h/riata/", "https://h/riata"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://[::1]:1", "http://[::1]:1"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_urls_of_hubs(text: str, url: str) -> None:
    assert logins.hub_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "h", "https://", "https://h#f", "https://[", "https://h:x", "https://ü", "http://10.0.0.1"]
)
def test_urls_that_are_not(text: str) -> None:
    with pytest.raises(errors.UsageError):
        logins.hub_url(text)


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a" * 64])
def test_names_that_are_no_profile(name: str) -> None:
    with pytest.raises(errors.UsageError):
        logins.profile_name(name)


def test_new_cas_are_kept_with_every_login_that_has_the_old_ones(tmp_path: pathlib.Path) -> None:
    one = logins.Login(hub="https://h", ca="old", ca_pin="sha256:0", token=TOKEN)
    other = logins.Login(hub="https://other", ca="old", token=TOKEN)
    env = _store(tmp_path, a=one, b=one, c=other)
    logins.keep_ca(env, one, "old new")
    kept = logins.load(logins.path(env)).hubs
    assert [(name, kept[name].ca, kept[name].ca_pin) for name in "abc"] == [
        ("a", "old new", ""), ("b", "old new", ""), ("c", "old", ""),
    ]  # fmt: skip
    before = logins.path(env).stat().st_mtime_ns
    logins.keep_ca(env, one, "other")
    assert logins.path(env).stat().st_mtime_ns == before


def test_while_another_riata_changes_the_file_nothing_is_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.locked.__wrapped__, "__kwdefaults__", {"wait_s": 0})
    one = logins.Login(hub="https://h", ca="old", token=TOKEN)
    env = _store(tmp_path, a=one)
    before = logins.path(env).read_text()
    with files.locked(logins.path(env)):
        for attempt in (
            lambda: logins.keep_ca(env, one, "new"),
            lambda: logins.change(logins.path(env), lambda _: logins.LoginFile()),
        ):
            with pytest.raises(errors.CommandError, match="is locked"):
                attempt()
        logins.keep_ca(env, logins.Login(hub="https://other", ca="old"), "new")  # kept by no login: nothing to write
    assert logins.path(env).read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == ["c.yaml"]


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.CommandError, match="cannot write"):
        logins.change(tmp_path / "file" / "c.yaml", lambda stored: stored)
