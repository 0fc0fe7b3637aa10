"""Diagnoses: every failure has a step, plain words and a cure."""

import datetime
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.uplink.diagnose import ProxyRefused, Step, description, of_network_error, of_refusal, of_status
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


@pytest.fixture(scope="module")
def met():
    """A certificate of a box on the way."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middlebox")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2027, 1, 2, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_what_a_certificate_says_of_itself(met):
    assert description(met) == (
        "subject CN=middlebox; issuer CN=middlebox; names a.example; valid 2026-01-02 to 2027-01-02"
    )


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01"),  # X.509 version 2
        (b"middlebox", b"m\xffddlebox"),  # no UTF-8
        (b"\x82\x09a.example", b"\xa5\x09\xa1\x07\x0c\x05abcde"),  # an ediPartyName
        (b"\x30\x82", b"\x31\x82"),
    ],
)
def test_a_certificate_that_cannot_be_described_is_described_so(met, there, instead):
    """It is for the log only, and the agent goes on."""
    assert there in met
    assert description(met.replace(there, instead)) == "a certificate that is malformed"
