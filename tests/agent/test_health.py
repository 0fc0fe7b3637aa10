"""Probes over real listeners on loopback."""

import http.client
import socket

import pytest

from agent.errors import ConfigError
from agent.health import Listener, Site


@pytest.fixture
def listener():
    site = Site({"/good": lambda: (True, b"ok\n"), "/bad": lambda: (False, b"because\n")})
    listener = Listener("--health-listen", "127.0.0.1:0", site)
    listener.start()
    yield listener
    listener.close()


def ask(listener, path, method="GET"):
    connection = http.client.HTTPConnection(listener.url.removeprefix("http://"), timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/good", "GET", (200, b"ok\n")),
        ("/bad", "GET", (503, b"because\n")),
        ("/good", "HEAD", (200, b"")),
        ("/good", "POST", (405, b"use GET\n")),
        ("/", "GET", (404, b"not found\n")),
        ("/good/../bad", "GET", (404, b"not found\n")),
    ],
)
def test_pages(listener, path, method, expected):
    assert ask(listener, path, method) == expected


def test_a_silent_client_does_not_block_the_others(listener):
    host, _, port = listener.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))):
        assert ask(listener, "/good")[0] == 200


def test_a_taken_port_is_named(listener):
    taken = listener.url.removeprefix("http://")
    with pytest.raises(ConfigError, match="--metrics-listen"):
        Listener("--metrics-listen", taken, Site({}))


def test_ipv6():
    listener = Listener("--health-listen", "[::1]:0", Site({"/good": lambda: (True, b"ok\n")}))
    listener.start()
    try:
        assert listener.url.startswith("http://[::1]:")
        assert ask(listener, "/good")[0] == 200
    finally:
        listener.close()
