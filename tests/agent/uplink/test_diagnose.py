"""Diagnoses: every failure has a step, plain words and a cure."""

import socket
import ssl

import pytest

from agent.uplink.diagnose import ProxyRefused, Step, of_network_error, of_refusal, of_status
from proto.errors import Code
from proto.messages import Refused


def certificate_error(code, message="nope"):
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason):
    error = ssl.SSLError(1, "x")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "step", "words", "is_slow"),
    [
        (socket.gaierror(-2, "Name or service not known"), Step.DNS, "does not resolve", False),
        (TimeoutError(), Step.TCP, "no answer from hub.test:8443", False),
        (ConnectionRefusedError(111, "x"), Step.TCP, "refused", False),
        (OSError(113, "No route to host"), Step.TCP, "No route to host", False),
        (ConnectionResetError(104, "Connection reset by peer"), Step.TCP, "reset by peer", False),
        (certificate_error(62), Step.TLS, "not for 'hub.test'", False),
        (certificate_error(64), Step.TLS, "not for 'hub.test'", False),
        (certificate_error(10), Step.TLS, "has expired", False),
        (certificate_error(9), Step.TLS, "not valid yet", False),
        (certificate_error(20), Step.PIN, "does not come from the pinned CA", True),
        (certificate_error(18), Step.PIN, "does not come from the pinned CA", True),
        (certificate_error(92, "CA cert does not include key usage"), Step.TLS, "key usage", False),
        (tls_error("WRONG_VERSION_NUMBER"), Step.TLS, "does not speak TLS", False),
        (tls_error("NO_PROTOCOLS_AVAILABLE"), Step.TLS, "NO_PROTOCOLS_AVAILABLE", False),
    ],
)
def test_network_errors(error, step, words, is_slow):
    diagnosis = of_network_error(error, "hub.test", 8443)
    assert (diagnosis.step, diagnosis.is_slow) == (step, is_slow)
    assert words in diagnosis.what
    assert diagnosis.cure


def test_the_proxy_is_named_where_it_matters():
    assert "proxy http://p.test:1" in of_network_error(TimeoutError(), "hub.test", 443, through="http://p.test:1").what


@pytest.mark.parametrize(
    ("status", "step", "is_slow"),
    [
        (301, Step.HTTP, False),
        (401, Step.CREDENTIAL, True),
        (403, Step.CREDENTIAL, True),
        (404, Step.HTTP, False),
        (429, Step.HTTP, False),
        (503, Step.HTTP, False),
        (500, Step.HTTP, False),
        (200, Step.HTTP, False),
    ],
)
def test_statuses(status, step, is_slow):
    diagnosis = of_status(status, 7.0, "https://elsewhere.test/")
    assert (diagnosis.step, diagnosis.is_slow, diagnosis.retry_s) == (step, is_slow, 7.0)
    assert diagnosis.cure


@pytest.mark.parametrize(
    ("code", "step", "is_slow"),
    [
        (Code.UNAUTHENTICATED, Step.CREDENTIAL, True),
        (Code.REVOKED, Step.CREDENTIAL, True),
        (Code.VERSION, Step.SESSION, True),
        (Code.OVERLOADED, Step.SESSION, False),
        (Code.DRAINING, Step.SESSION, False),
        (200, Step.SESSION, False),
    ],
)
def test_refusals(code, step, is_slow):
    diagnosis = of_refusal(Refused(code=int(code), text="because", retry_ms=1500))
    assert (diagnosis.step, diagnosis.is_slow, diagnosis.retry_s) == (step, is_slow, 1.5)
    assert diagnosis.cure


@pytest.mark.parametrize("status", [400, 426])
def test_a_hub_that_saw_no_upgrade_says_that_something_took_it_away(status):
    diagnosis = of_status(status, 0.0, "")
    assert (diagnosis.step, diagnosis.cause) == (Step.WEBSOCKET, "websocket-stripped")
    assert "proxy_http_version" in diagnosis.cure


def test_a_proxy_that_says_no_is_no_matter_of_tcp():
    error = ProxyRefused("refused: 407")
    diagnosis = of_network_error(error, "hub.test", 443, through="http://p.test:1")
    assert (diagnosis.step, diagnosis.what) == (Step.PROXY, "the proxy http://p.test:1 refused: 407")
