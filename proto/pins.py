"""Pins of certificate authorities: SHA-256 over the SubjectPublicKeyInfo (RFC 7469 §2.4 without its base64).

A pin is written `sha256:<64 hex digits>`. Pinning the key instead of the certificate lets a CA be re-issued with new
dates without touching any agent.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_PIN: Final = re.compile(r"sha256:([0-9a-f]{64})")
PEM_BYTES_MAX: Final = 256 * 1024
"""A bundle of a few CAs is some KiB; more is not a bundle that anybody made for us."""


class PinError(ValueError):
    """The text is no pin, or the PEM holds no certificate. The message says what was expected."""


def spki_pin(certificate: x509.Certificate) -> str:
    """`sha256:<hex>` of a certificate's public key."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def parse_pin(text: str) -> str:
    """The pin in its one spelling (lower case). Raises PinError: an empty or short pin must never mean "no pin"."""
    pin = text.strip().lower()
    if not _PIN.fullmatch(pin):
        raise PinError(f"a pin looks like sha256:<64 hex digits>, not {text[:80]!r}")
    return pin


def certificates_of_pem(pem: bytes) -> list[x509.Certificate]:
    """Every certificate of a PEM bundle, at least one. Raises PinError."""
    if len(pem) > PEM_BYTES_MAX:
        raise PinError(f"the CA bundle has more than {PEM_BYTES_MAX} bytes")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise PinError("the CA file holds no PEM certificate") from exc


def pins_of_pem(pem: bytes) -> list[str]:
    """The pin of every certificate of a PEM bundle, in its order. Raises PinError."""
    return [spki_pin(certificate) for certificate in certificates_of_pem(pem)]


def keep_pinned(pem: bytes, pins: Iterable[str]) -> bytes:
    """The certificates of a bundle that match one of the pins, as PEM; empty when none does (design P8).

    Raises PinError for a bundle without certificates and for malformed or missing pins.
    """
    wanted = [parse_pin(pin) for pin in pins]
    if not wanted:
        raise PinError("at least one pin is needed")
    kept = [
        certificate
        for certificate in certificates_of_pem(pem)
        if any(hmac.compare_digest(spki_pin(certificate), pin) for pin in wanted)
    ]
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in kept)
