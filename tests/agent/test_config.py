"""Settings."""

import dataclasses

import pytest

from agent.config import HubSettings, KubeSettings, ServeSettings, split_listen
from agent.errors import ConfigError

PIN = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("url", "host", "port", "tunnel"),
    [
        ("https://hub.test", "hub.test", 443, "wss://hub.test/v1/tunnel"),
        ("https://hub.test:8443/", "hub.test", 8443, "wss://hub.test:8443/v1/tunnel"),
        ("https://[fd00::1]:8443/riata/", "fd00::1", 8443, "wss://[fd00::1]:8443/riata/v1/tunnel"),
    ],
)
def test_hub_addresses(url, host, port, tunnel):
    hub = HubSettings(url=url, ca_pins=(PIN,))
    assert (hub.host, hub.port, hub.tunnel_url) == (host, port, tunnel)


@pytest.mark.parametrize("host", ["hub..example.org", "a" * 64 + ".test", "-hub.test", "hub.test%20", "x." * 130])
def test_what_is_no_host(host):
    """Found at start, with the flag's name: name lookup would raise what nobody expects."""
    with pytest.raises(ConfigError, match=r"--hub-url .* is no host name"):
        HubSettings(url=f"https://{host}", ca_pins=(PIN,))


@pytest.mark.parametrize("host", ["hub", "HUB.example.org.", "xn--bcher-kva.example", "a_b.test", "192.0.2.1", "[::1]"])
def test_what_is_a_host(host):
    assert HubSettings(url=f"https://{host}", ca_pins=(PIN,)).host


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HubSettings(url="https://hub.test", ca_pins=(PIN,)).url = "x"


@pytest.mark.parametrize("pins", [(), (PIN, PIN, PIN)])
def test_one_pin_or_two(pins):
    with pytest.raises(ConfigError):
        HubSettings(url="https://hub.test", ca_pins=pins)


def test_an_api_server_is_given_whole():
    with pytest.raises(ConfigError):
        KubeSettings(url="https://kube.test")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:65535", ("localhost", 65535)),
        ("*:8081", ("*", 8081)),
    ],
)
def test_listen_addresses(value, expected):
    assert split_listen("--x", value) == expected
    ServeSettings(health_listen=value)


@pytest.mark.parametrize("value", ["", ":80", "80", "::1:80", "h:", "h:65536", "h:-1", "a b:1", "h:1/x"])
def test_what_is_no_listen_address(value):
    with pytest.raises(ConfigError, match="--x"):
        split_listen("--x", value)
