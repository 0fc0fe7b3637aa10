"""Pins are of keys, have one spelling, and an empty one never means "no pin"."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

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


def test_a_renewed_certificate_of_the_same_key_keeps_its_pin() -> None:
    assert pins.spki_pin(ONE) == pins.spki_pin(RENEWED) != pins.spki_pin(FOREIGN)
    assert pins.parse_pin(pins.spki_pin(ONE).upper()) == pins.spki_pin(ONE)


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:abc", "abc", "sha256:" + "g" * 64, "sha1:" + "a" * 40])
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(pins.PinError, match="looks like"):
        pins.parse_pin(text)


def test_pins_of_a_bundle_in_order() -> None:
    assert pins.pins_of_pem(pem(ONE, FOREIGN)) == [pins.spki_pin(ONE), pins.spki_pin(FOREIGN)]


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_bundle_without_certificates_is_refused(text: bytes) -> None:
    with pytest.raises(pins.PinError):
        pins.pins_of_pem(text)


def test_a_huge_bundle_is_refused() -> None:
    with pytest.raises(pins.PinError, match="more than"):
        pins.pins_of_pem(b"x" * (pins.PEM_BYTES_MAX + 1))


def test_only_pinned_certificates_are_kept() -> None:
    assert pins.keep_pinned(pem(FOREIGN, ONE), [pins.spki_pin(ONE)]) == pem(ONE)
    assert pins.keep_pinned(pem(FOREIGN), [pins.spki_pin(ONE)]) == b""
    both = [pins.spki_pin(ONE), pins.spki_pin(FOREIGN)]
    assert pins.keep_pinned(pem(ONE, FOREIGN), both) == pem(ONE, FOREIGN)
    with pytest.raises(pins.PinError, match="at least one"):
        pins.keep_pinned(pem(ONE), [])
