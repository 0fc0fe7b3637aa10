"""Which proxy a request takes."""

import pytest

from ctl import errors, proxies

P = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "env", "proxy"),
    [
        ("https://h", {}, None),
        ("https://h", {"HTTPS_PROXY": P}, P),
        ("https://h", {"HTTPS_PROXY": P, "https_proxy": "http://lower"}, P),
        ("https://h", {"HTTPS_PROXY": "", "https_proxy": P}, P),
        ("https://h", {"HTTPS_PROXY": P, "NO_PROXY": "h", "no_proxy": "other"}, None),
        ("https://h", {"HTTPS_PROXY": "proxy:3128"}, P),
        ("https://h", {"HTTP_PROXY": P, "ALL_PROXY": P}, None),
        ("https://127.0.0.1:8443", {"HTTPS_PROXY": P}, None),
        ("https://localhost", {"HTTPS_PROXY": P}, None),
        ("http://[::1]:8080", {"HTTP_PROXY": P}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.1.2.3", {"HTTPS_PROXY": P, "NO_PROXY": "10.0.0.0/8"}, P),
        ("https://hub.corp", {"HTTPS_PROXY": P, "no_proxy": ".corp"}, None),
    ],
)
def test_the_rules_of_kubectl(url: str, env: dict[str, str], proxy: str | None) -> None:
    assert proxies.choose(url, env) == proxy


@pytest.mark.parametrize("proxy", ["socks5://u:secret@h", "http://u:secret@h:99999", "http://u:secret@[::1", "http://"])
def test_a_proxy_that_is_not_http_is_a_usage_error_that_does_not_show_its_password(proxy: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        proxies.choose("https://h", {"HTTPS_PROXY": proxy})
    assert "secret" not in caught.value.render()
