"""NO_PROXY as Go reads it: the table of golang.org/x/net/http/httpproxy's own tests, and the cases of deployments."""

import pytest

from proto.noproxy import bypasses

GO_LIST = (
    ".barbaz.net, foobar.com:443, 192.168.1.1, 192.168.1.1:80, 192.168.0.0/16, [2001:db8::52:0:2]:443, 10.5.0.0/24"
)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("", "hub.test", 443, False),
        (",, ,", "hub.test", 443, False),
        ("*", "hub.test", 443, True),
        ("a.test,*", "192.0.2.1", 443, True),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "127.9.9.9", 8443, True),
        ("", "[::1]", 443, True),
        ("hub.test", "hub.test", 443, True),
        ("hub.test", "HUB.Test.", 443, True),
        ("HUB.test", "hub.test", 443, True),
        ("hub.test", "a.hub.test", 443, True),
        ("hub.test", "ahub.test", 443, False),
        ("hub.test", "hub.test.evil", 443, False),
        (".hub.test", "a.hub.test", 443, True),
        (".hub.test", "hub.test", 443, False),
        ("*.hub.test", "a.hub.test", 443, True),
        ("*.hub.test", "hub.test", 443, False),
        (".", "hub.test", 443, False),
        ("hub.test:8443", "hub.test", 8443, True),
        ("hub.test:8443", "hub.test", 443, False),
        ("hub.test:8443", "a.hub.test", 8443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3/8", "10.200.0.1", 443, True),
        ("10.0.0.0/8", "ten.test", 443, False),
        ("10.0.0.0/33", "10.1.2.3", 443, False),
        ("fd00::/8", "fd00::1", 443, True),
        ("fd00::/8", "[fd12::1]", 443, True),
        ("fd00::/8", "10.1.2.3", 443, False),
        ("0.0.0.0/0", "::1:2", 443, False),
        ("192.0.2.1", "192.0.2.1", 443, True),
        ("192.0.2.1", "::ffff:192.0.2.1", 443, True),
        ("192.0.2.1", "192.0.2.10", 443, False),
        ("192.0.2.1:80", "192.0.2.1", 443, False),
        ("192.0.2.1:443", "192.0.2.1", 443, True),
        ("2001:db8::1", "2001:db8:0::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 444, False),
        ("2.1", "192.0.2.1", 443, False),
        (" 10.0.0.0/8 , hub.test ", "hub.test", 443, True),
        ("http://hub.test", "hub.test", 443, False),
        ("hub.test:x", "hub.test", 443, False),
        (GO_LIST, "barbaz.net", 80, False),
        (GO_LIST, "www.barbaz.net", 80, True),
        (GO_LIST, "foobar.com", 443, True),
        (GO_LIST, "foobar.com", 80, False),
        (GO_LIST, "www.foobar.com", 443, True),
        (GO_LIST, "192.168.1.1", 443, True),
        (GO_LIST, "192.168.77.1", 443, True),
        (GO_LIST, "10.5.0.7", 443, True),
        (GO_LIST, "10.5.1.7", 443, False),
        (GO_LIST, "2001:db8::52:0:2", 443, True),
        (GO_LIST, "2001:db8::52:0:2", 80, False),
        (GO_LIST, "foo.example.com", 443, False),
    ],
)
def test_table(no_proxy, host, port, expected):
    assert bypasses(no_proxy, host, port) is expected
