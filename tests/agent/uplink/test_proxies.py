"""Which proxy leads to the hub."""

import pytest

from agent.uplink.diagnose import ConnectFailed, Step
from agent.uplink.proxies import choose


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"http_proxy": "http://p.test:3128"}, None),
        ({"https_proxy": "http://p.test:3128"}, "http://p.test:3128"),
        ({"https_proxy": "p.test:3128"}, "http://p.test:3128"),
        ({"https_proxy": "http://p.test"}, "http://p.test:80"),
        ({"https_proxy": "https://p.test"}, "https://p.test:443"),
        ({"https_proxy": "http://p.test:3128/"}, "http://p.test:3128"),
        ({"all_proxy": "socks5://p.test"}, "socks5://p.test:1080"),
        ({"all_proxy": "socks5h://[2001:db8::1]:9050"}, "socks5h://[2001:db8::1]:9050"),
        ({"socks_proxy": "p.test:9050"}, "socks5h://p.test:9050"),
        ({"socks_proxy": "socks://p.test:9050"}, "socks5h://p.test:9050"),
        ({"all_proxy": "socks4a://p.test", "https_proxy": "http://q.test:1"}, "http://q.test:1"),
        ({"all_proxy": "http://p.test:1", "socks_proxy": "socks5://q.test:2"}, "socks5://q.test:2"),
        ({"https_proxy": "http://p.test:3128", "no_proxy": "hub.test"}, None),
        ({"https_proxy": "http://p.test:3128", "no_proxy": "other.test"}, "http://p.test:3128"),
    ],
)
def test_choice(environment, expected):
    proxy = choose(environment, "hub.test", 443)
    assert (proxy.url if proxy else None) == expected


def test_networks_in_no_proxy_count():
    assert choose({"https_proxy": "http://p.test:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3", 443) is None


def test_passwords_are_kept_for_the_proxy_and_out_of_sight():
    proxy = choose({"https_proxy": "http://user:s%40cret@p.test:3128"}, "hub.test", 443)
    assert proxy.url == "http://user:s%40cret@p.test:3128"
    assert proxy.address == "http://p.test:3128"
    assert "cret" not in repr(proxy)


def test_a_user_without_password_is_completed():
    assert choose({"https_proxy": "http://user@p.test:3128"}, "hub.test", 443).url == "http://user:@p.test:3128"


@pytest.mark.parametrize("value", ["ftp://p.test", "http://", "http://p.test:x", "http://p.test/a", "http://p.test?a"])
def test_unusable_values_are_explained_without_being_quoted(value):
    with pytest.raises(ConnectFailed) as caught:
        choose({"https_proxy": value.replace("//", "//user:secret@")}, "hub.test", 443)
    assert caught.value.diagnosis.step is Step.PROXY
    assert "HTTPS_PROXY" in str(caught.value)
    assert "secret" not in str(caught.value)
