"""Errors of the system become rows of the table; the first two steps of a way are taken one by one."""

import asyncio
import socket
import ssl

import pytest

from proto import causes
from proto.aio import reach
from tests.proto.aio.names import black_hole, resolving


def _certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "the library's words"
    return error


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "x")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (socket.gaierror(-2, "Name or service not known"), causes.DNS_UNRESOLVED),
        (UnicodeError("label too long"), causes.DNS_UNRESOLVED),
        (TimeoutError(), causes.TCP_SILENT),
        (ConnectionRefusedError(111, "x"), causes.TCP_REFUSED),
        (OSError(113, "No route to host"), causes.TCP_UNREACHABLE),
        (_certificate(62), causes.TLS_NAME),
        (_certificate(10), causes.TLS_DATES),
        (_certificate(9), causes.TLS_DATES),
        (_certificate(19), causes.PIN_OTHER_CA),
        (_certificate(92), causes.TLS_FORM),
        (_tls("WRONG_VERSION_NUMBER"), causes.TLS_NONE),
        (_tls("NO_PROTOCOLS_AVAILABLE"), causes.TLS_FAILED),
    ],
)
def test_each_error_has_its_row(error: OSError | UnicodeError, cause: causes.Cause) -> None:
    found = reach.diagnose(error, "hub.test", 443, through="http://p.test:1", names=causes.OPERATOR)
    assert found.cause == cause.id
    if cause.check == "tcp":
        assert "hub.test:443 through the proxy http://p.test:1" in found.what


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(113, "No route to host"), "No route to host"),
        (OSError(113, "Connect call failed ('192.0.2.1', 443)"), "No route to host"),
        (OSError("Multiple exceptions: [Errno 101], [Errno 113]"), "Multiple exceptions: [Errno 101], [Errno 113]"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_an_error_has_to_say_is_said(error: OSError, said: str) -> None:
    assert reach.cause_of(error) == (causes.TCP_UNREACHABLE, said)


async def test_a_name_and_a_connection() -> None:
    assert await reach.resolve("127.0.0.1", 80) == ["127.0.0.1"]
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert 0 <= await reach.connect("127.0.0.1", port) < reach.TIMEOUT
    with pytest.raises(ConnectionRefusedError):
        await reach.connect("127.0.0.1", port)


async def test_an_address_that_drops_packets_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        with black_hole() as hole:
            resolving(monkeypatch, **{"hub.test": [hole, server.sockets[0].getsockname()]})
            assert await reach.connect("hub.test", 443) < reach.TIMEOUT


async def test_a_name_that_is_none() -> None:
    with pytest.raises((OSError, UnicodeError)) as caught:
        await reach.resolve("a" * 64 + ".invalid", 80)
    assert reach.cause_of(caught.value)[0] is causes.DNS_UNRESOLVED
