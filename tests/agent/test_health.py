"""Probes over real listeners on loopback."""

import contextlib
import http.client
import logging
import socket
import threading

import pytest

from agent import health
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


def connect(listener):
    host, _, port = listener.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def is_closed_behind(sock, byte):
    """Whether the far end has closed, a moment after one byte more."""
    try:
        sock.send(byte)
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_client_that_sends_a_byte_now_and_then_is_closed(listener, monkeypatch):
    """Each byte is in time; the request is not."""
    monkeypatch.setattr(health, "REQUEST_TIMEOUT", 0.2)
    with connect(listener) as slow:
        slow.settimeout(0.05)
        assert any(is_closed_behind(slow, b"G") for _ in range(40))


def hold(stack, listener, count):
    """So many silent connections."""
    return [stack.enter_context(connect(listener)) for _ in range(count)]


def answer(sock):
    """What comes until the far end closes."""
    return b"".join(iter(lambda: sock.recv(4096), b""))


def test_silent_clients_do_not_keep_the_kubelet_out(listener):
    """The one that has been silent for longest makes room, and no other."""
    with contextlib.ExitStack() as stack:
        held = hold(stack, listener, health.THREADS_MAX)
        assert ask(listener, "/good") == (200, b"ok\n")
        assert held[0].recv(1) == b""
        for sock in held[1:]:
            sock.sendall(b"GET /good HTTP/1.0\r\n\r\n")
            assert answer(sock).endswith(b"ok\n")


def test_no_number_of_silent_clients_keeps_the_kubelet_out(listener):
    with contextlib.ExitStack() as stack:
        held = hold(stack, listener, health.THREADS_MAX)
        for number in range(2 * health.THREADS_MAX):
            held += hold(stack, listener, 1)
            assert held[number].recv(1) == b""
        assert ask(listener, "/good")[0] == 200


def test_who_is_answered_makes_room_for_nobody():
    asked, is_over = threading.Semaphore(0), threading.Event()

    def slow():
        asked.release()
        return is_over.wait(5.0), b"done\n"

    listener = Listener("--health-listen", "127.0.0.1:0", Site({"/slow": slow}))
    listener.start()
    try:
        with contextlib.ExitStack() as stack:
            held = hold(stack, listener, health.THREADS_MAX)
            for sock in held:
                sock.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
                assert asked.acquire(timeout=5.0)
            assert stack.enter_context(connect(listener)).recv(1) == b""
            is_over.set()
            assert all(answer(sock).endswith(b"done\n") for sock in held)
        assert ask(listener, "/slow")[0] == 200
    finally:
        is_over.set()
        listener.close()


def test_a_client_that_says_nothing_leaves_no_traceback(listener, capfd, caplog, monkeypatch):
    """Standard error is the log, a JSON document a line."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(health, "REQUEST_TIMEOUT", 0.05)
    with connect(listener) as idle:
        assert idle.recv(1) == b""
    assert capfd.readouterr().err == ""
    assert "probe ended early" in caplog.text


def test_a_taken_port_is_named(listener):
    taken = listener.url.removeprefix("http://")
    with pytest.raises(ConfigError, match="--metrics-listen"):
        Listener("--metrics-listen", taken, Site({}))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_every_address_is_of_both_families(host):
    """In a cluster of IPv6 alone the kubelet asks at a pod's only address."""
    listener = Listener("--health-listen", "*:0", Site({"/good": lambda: (True, b"ok\n")}))
    listener.start()
    try:
        listener.url = listener.url.replace("127.0.0.1", host)
        assert ask(listener, "/good")[0] == 200
    finally:
        listener.close()


def test_every_address_where_the_kernel_has_no_ipv6(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    listener = Listener("--health-listen", "*:0", Site({"/good": lambda: (True, b"ok\n")}))
    listener.start()
    try:
        assert ask(listener, "/good")[0] == 200
    finally:
        listener.close()


def test_ipv6():
    listener = Listener("--health-listen", "[::1]:0", Site({"/good": lambda: (True, b"ok\n")}))
    listener.start()
    try:
        assert listener.url.startswith("http://[::1]:")
        assert ask(listener, "/good")[0] == 200
    finally:
        listener.close()
