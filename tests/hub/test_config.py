"""Settings: precedence, unknown keys, and every wrong value named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub import config


def load(tmp_path: Path, flags: dict[str, object] | None = None, env: dict[str, str] | None = None, toml: str = ""):
    # type: ignore[no-untyped-def]
    if toml:
        (tmp_path / config.FILE_NAME).write_text(toml)
    return config.load({"data": str(tmp_path), **(flags or {})}, env or {}, None)


def test_defaults_are_safe(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.data == tmp_path
    assert settings.listen == ("127.0.0.1:8443",)
    assert settings.metrics_listen.startswith("127.0.0.1:")
    assert not settings.plain_http


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    toml = 'log_level = "error"\nlog_format = "console"\npublic_url = "https://file"\n[api]\nrequest_timeout_s = 5\n'
    env = {"RIATA_HUB_LOG_LEVEL": "warning", "RIATA_HUB_LOG_FORMAT": "json", "RIATA_HUB_API_BODY_BYTES_MAX": "2048"}
    settings = load(tmp_path, {"log_level": "debug", "log_format": None}, env, toml)
    assert (settings.log_level, settings.log_format, settings.public_url) == ("debug", "json", "https://file")
    assert (settings.api.request_timeout_s, settings.api.body_bytes_max) == (5.0, 2048)
    assert settings.api.token_lifetime_max_s == config.ApiSettings().token_lifetime_max_s


def test_lists_and_flags_in_the_environment(tmp_path: Path) -> None:
    env = {"RIATA_HUB_LISTEN": "127.0.0.1:0,[::1]:0", "RIATA_HUB_PLAIN_HTTP": "true"}
    settings = load(tmp_path, env=env)
    assert settings.listen == ("127.0.0.1:0", "[::1]:0")
    assert [config.host_and_port(each) for each in (*settings.listen, "*:8443")] == [
        ("127.0.0.1", 0),
        ("::1", 0),
        ("", 8443),
    ]
    assert settings.plain_http
    env = {
        "RIATA_HUB_HOST_NAMES": "hub.example.org, 192.0.2.1 ,",
        "RIATA_HUB_TLS_NAMES": "",
        "RIATA_HUB_AGENT_PINS": "",
    }
    settings = load(tmp_path, env=env)
    assert settings.host_names == ("hub.example.org", "192.0.2.1")  # " 192.0.2.1" is nobody's name
    assert settings.tls_names == settings.agent_pins == ()  # "" as a name would be in the certificate


def test_a_named_file_replaces_the_one_in_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / config.FILE_NAME).write_text('log_level = "error"')
    other = tmp_path / "other.toml"
    other.write_text(f'data = "{tmp_path}"')
    assert config.load({}, {}, other).log_level == "info"


def test_every_field_of_every_group_can_be_set(tmp_path: Path) -> None:
    names = [config.environment_name(name) for name, _ in config.fields()]
    assert len(set(names)) == len(names)
    assert load(tmp_path, env={"RIATA_HUB_TUNNEL_STREAMS": "17"}).tunnel.streams == 17
    assert load(tmp_path, env={"RIATA_HUB_EDGE_BACKLOG": "17"}).edge.backlog == 17


@pytest.mark.parametrize(
    ("flags", "env", "toml", "message"),
    [
        ({}, {"RIATA_HUB_LISTENN": "x"}, "", "RIATA_HUB_LISTENN: there is no such setting"),
        ({}, {}, "listenn = 1", "listenn: there is no setting"),
        ({}, {}, "[api]\nbody = 1", r"\[api\] body: there is no setting"),
        ({}, {}, "[apis]\nbody = 1", "apis: there is no setting"),
        ({}, {}, "api = 1", "api: there is no setting"),
        ({}, {}, "not toml", "is no TOML"),
        ({}, {"RIATA_HUB_API_BODY_BYTES_MAX": "many"}, "", "RIATA_HUB_API_BODY_BYTES_MAX: .*integer"),
        ({}, {"RIATA_HUB_API_BODY_BYTES_MAX": "1023"}, "", "^api: body_bytes_max is at least 1024"),
        ({}, {"RIATA_HUB_API_BODY_BYTES_MAX": "0"}, "", "finite number above 0"),
        ({}, {"RIATA_HUB_EDGE_HANDSHAKES_MAX": "-1"}, "", "finite number above 0"),
        ({}, {"RIATA_HUB_EDGE_IDLE_TIMEOUT_S": "nan"}, "", "finite number above 0"),
        ({}, {}, "[edge]\nidle_timeout_s = inf", "finite number above 0"),
        ({}, {"RIATA_HUB_DRAIN_GRACE_S": "-1"}, "", "finite number above 0"),
        ({}, {"RIATA_HUB_BUSY_POLL_SHARE": "-0.1"}, "", "finite number above 0"),
        ({}, {"RIATA_HUB_BUSY_POLL_SHARE": "25"}, "", "a share of a core, 0 to 1"),
        ({"public_url": "https://hüb"}, {}, "", "ASCII"),
        ({"listen": ()}, {}, "", "at least one"),
        ({"listen": ("8443",)}, {}, "", "no HOST:PORT"),
        ({"listen": ("::1:8443",)}, {}, "", "brackets"),
        ({"listen": ("127.0.0.1:99999",)}, {}, "", "no HOST:PORT"),
        ({"metrics_listen": "x"}, {}, "", "no HOST:PORT"),
        ({"log_format": "xml"}, {}, "", "--log-format: .*'json'"),
        ({"tls_cert": "/x"}, {}, "", "belong together"),
        ({}, {"RIATA_HUB_AGENT_CA": "/x"}, "", "agent_ca belongs to agent_pins"),
        ({"plain_http": True, "listen": ("0.0.0.0:80",)}, {}, "", "only allowed on loopback.*0.0.0.0:80"),
        ({"plain_http": True, "listen": ("*:80",)}, {}, "", "only allowed on loopback"),
        ({"plain_http": True, "listen": ("hub.example.org:80",)}, {}, "", "only allowed on loopback"),
        ({"plain_http": True, "listen": ("127.0.0.1:80", "192.0.2.1:80")}, {}, "", "192.0.2.1:80"),
        ({"plain_http": True, "tls_cert": "/x", "tls_key": "/y"}, {}, "", "exclude each other"),
        ({"public_url": "http://hub.example.org"}, {}, "", "public_url"),
        ({"public_url": "https://user:secret@hub"}, {}, "", "no user and no password"),
        ({"public_url": "https://hub/?token=x"}, {}, "", "no query"),
        ({"public_url": "https://hub:99999"}, {}, "", "is no URL"),
        ({"public_url": 'https://h"x'}, {}, "", "a character that a URL may not have"),
        ({"public_url": "https://hub/a\\b"}, {}, "", "a character that a URL may not have"),
        ({}, {"RIATA_HUB_TUNNEL_DATA_BYTES": "99999"}, "", "^tunnel: data frames"),
        ({}, {"RIATA_HUB_TUNNEL_FAR_RTT_S": "0.0001"}, "", "^tunnel: need 0 <= near_rtt_s <= far_rtt_s"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, flags: dict[str, object], env: dict[str, str], toml: str, message: str
) -> None:
    with pytest.raises(config.ConfigError, match=message):
        load(tmp_path, flags, env, toml)


def test_the_data_directory_is_needed() -> None:
    with pytest.raises(config.ConfigError, match="--data"):
        config.load({}, {}, None)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="cannot be read"):
        config.load({}, {}, tmp_path / "none.toml")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert config.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example.org", ""])
def test_not_loopback(host: str) -> None:
    assert not config.is_loopback(host)


def test_effective_settings_name_everything(tmp_path: Path) -> None:
    shown = config.effective(load(tmp_path))
    assert set(shown) == {name.split(".")[0] for name, _ in config.fields()}
    assert shown["data"] == str(tmp_path)
