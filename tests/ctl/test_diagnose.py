"""What aiohttp raises becomes a row of the table."""

import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from ctl import diagnose, logins

LOGIN = logins.Login(hub="https://hub.test:8443/riata", ca="PEM")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "not known")
KEY = ConnectionKey("hub.test", 8443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("exc", "cause", "words"),
    [
        (TimeoutError(), "tcp-silent", "hub.test:8443 through the proxy http://p.test:1"),
        (aiohttp.SocketTimeoutError(), "tcp-silent", "no answer"),
        (aiohttp.ServerDisconnectedError(), "proxy-refused", "http://p.test:1 broke off the way to hub.test:8443"),
        (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "x")), "tcp-refused", "refused"),
        (aiohttp.ClientProxyConnectionError(KEY, OSError(113, "No route to host")), "proxy-unreachable", "No route"),
        (ConnectionResetError(104, "reset"), "tcp-unreachable", "reset"),
        (
            aiohttp.ClientConnectorDNSError(KEY, UNKNOWN),
            "proxy-unreachable",
            "http://p.test:1 cannot be reached (not kn",
        ),
        (UnicodeError("label too long"), "proxy-unreachable", "label too long"),
    ],
)
def test_each_has_its_row(exc: BaseException, cause: str, words: str) -> None:
    found = diagnose.explain(exc, LOGIN, "http://u:s3cret@p.test:1")
    assert found.cause == cause
    assert words in found.what
    assert "s3cret" not in found.what


def test_without_a_proxy_it_is_the_hub_that_broke_off() -> None:
    found = diagnose.explain(aiohttp.ServerDisconnectedError(), LOGIN, None)
    assert (found.cause, "hub.test:8443 broke off" in found.what) == ("tcp-broken", True)


def test_places_and_addresses() -> None:
    assert diagnose.place("https://[fd00::1]") == ("fd00::1", 443)
    assert diagnose.place("http://localhost/x") == ("localhost", 80)
    assert diagnose.address(None) == ""


def test_where_no_ca_was_given_that_is_what_is_missing() -> None:
    error = ssl.SSLCertVerificationError(1, "unable to get local issuer certificate")
    error.verify_code, error.verify_message = 20, "unable to get local issuer certificate"
    met = aiohttp.ClientConnectorCertificateError(KEY, error)
    assert diagnose.explain(met, LOGIN, None).cause == "pin-other-ca"
    found = diagnose.explain(met, logins.Login(hub=LOGIN.hub), None)
    assert (found.cause, found.step, "--ca-file FILE" in found.cure) == ("ca-missing", "pin", True)
