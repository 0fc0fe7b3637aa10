"""Pins are of keys, have one spelling, and an empty one never means "no pin"."""

import contextlib
import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import pins


def certificate(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start)
    return builder.not_valid_after(start + datetime.timedelta(days=1)).sign(key, hashes.SHA256())


KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ONE, RENEWED, FOREIGN = certificate(KEY, "one"), certificate(KEY, "two"), certificate(OTHER, "foreign")


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_a_renewed_certificate_of_the_same_key_keeps_its_pin() -> None:
    assert pins.spki_pin(der(ONE)) == pins.spki_pin(der(RENEWED)) != pins.spki_pin(der(FOREIGN))
    assert pins.parse_pin(pins.spki_pin(der(ONE)).upper()) == pins.spki_pin(der(ONE))


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:abc", "abc", "sha256:" + "g" * 64, "sha1:" + "a" * 40])
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(pins.PinError, match="looks like"):
        pins.parse_pin(text)


def test_pins_of_a_bundle_in_order() -> None:
    assert pins.pins_of_pem(pem(ONE, FOREIGN)) == [pins.spki_pin(der(ONE)), pins.spki_pin(der(FOREIGN))]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n", pem(ONE).replace(b"END", b"EN"),
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    ],
)  # fmt: skip
def test_a_bundle_without_certificates_is_refused(text: bytes) -> None:
    with pytest.raises(pins.PinError):
        pins.pins_of_pem(text)


def test_a_huge_bundle_is_refused() -> None:
    with pytest.raises(pins.PinError, match="more than"):
        pins.pins_of_pem(b"x" * (pins.PEM_BYTES_MAX + 1))


def test_only_pinned_certificates_are_kept() -> None:
    assert pins.keep_pinned(pem(FOREIGN, ONE), [pins.spki_pin(der(ONE))]) == pem(ONE)
    assert pins.keep_pinned(pem(FOREIGN), [pins.spki_pin(der(ONE))]) == b""
    both = [pins.spki_pin(der(ONE)), pins.spki_pin(der(FOREIGN))]
    assert pins.keep_pinned(pem(ONE, FOREIGN), both) == pem(ONE, FOREIGN)
    with pytest.raises(pins.PinError, match="at least one"):
        pins.keep_pinned(pem(ONE), [])


def of_library(certificate: bytes) -> str:
    """The pin as pyca/cryptography sees the key."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return f"sha256:{hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()}"


KINDS = [
    KEY,
    ec.generate_private_key(ec.SECP521R1()),
    rsa.generate_private_key(65537, 2048),
    ed25519.Ed25519PrivateKey.generate(),
]


@pytest.mark.parametrize("key", KINDS, ids=lambda key: type(key).__name__)
def test_the_walk_finds_what_the_library_finds(key: Any) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n" * 60)] * 5)  # lengths of two bytes
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = builder.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, algorithm)
    assert pins.spki_pin(der(made)) == of_library(der(made))
    bundle = b"junk\n" + pem(made).replace(b"\n", b"\r\n") + b"# more\n" + pem(FOREIGN)
    assert pins.pins_of_pem(bundle) == [of_library(der(made)), of_library(der(FOREIGN))]
    assert pins.keep_pinned(bundle, [of_library(der(made))]) == pem(made)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(der(ONE)) - 1), st.integers(0, 255), st.integers(0, 3))
def test_a_damaged_certificate_has_no_pin_or_the_librarys(at: int, value: int, cut: int) -> None:
    damaged = bytearray(der(ONE))
    damaged[at] = value
    data = bytes(damaged[: len(damaged) - cut])
    try:
        expected = of_library(data)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, CryptographyDeprecationWarning):
        expected = ""
    try:
        found = pins.spki_pin(data)
    except pins.PinError:
        return  # not trusted
    assert not expected or found == expected


@given(st.binary(max_size=200))
def test_nothing_that_is_no_certificate_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(pins.PinError):
        pins.spki_pin(data)
    with contextlib.suppress(pins.PinError):
        pins.pins_of_pem(b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n")
