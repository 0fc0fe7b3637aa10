"""Pins of certificate authorities: SHA-256 over the SubjectPublicKeyInfo (RFC 7469 §2.4 without its base64).

A pin is written `sha256:<64 hex digits>`. Pinning the key instead of the certificate lets a CA be re-issued with new
dates without touching any agent.

The key is found by walking the certificate's DER (RFC 5280 §4.1) instead of by a library that costs an agent 8 MiB for
one hash. The walk is strict: what it cannot read has no pin, and what has none is never trusted. OpenSSL then reads
the same bytes; a test compares the walk with pyca/cryptography, also on damaged certificates.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

_PIN: Final = re.compile(r"sha256:([0-9a-f]{64})")
_PEM: Final = re.compile(rb"-----BEGIN (X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END \1?CERTIFICATE-----")
PEM_BYTES_MAX: Final = 256 * 1024
"""Of what a peer may send, or an agent keep: a bundle of a few CAs is some KiB. What a company's machines trust may be
more: who reads a file of the user's own names another bound."""

_INTEGER: Final = 0x02
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_BEFORE_THE_KEY: Final = (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE)
"""Serial number, signature algorithm, issuer, validity, subject."""


class PinError(ValueError):
    """The text is no pin, or the PEM holds no certificate. The message says what was expected."""


def spki_pin(certificate: bytes) -> str:
    """`sha256:<hex>` of the public key of a certificate in DER. Raises PinError."""
    return f"sha256:{hashlib.sha256(_public_key(certificate)).hexdigest()}"


def _public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo, header included. Raises PinError for anything but strict DER of that shape."""
    start, end = _element(certificate, 0, len(certificate), _SEQUENCE)
    if end != len(certificate):
        raise _malformed()
    at, end = _element(certificate, start, end, _SEQUENCE)
    if at < end and certificate[at] == _VERSION:
        _, at = _element(certificate, at, end, _VERSION)
    for tag in _BEFORE_THE_KEY:
        _, at = _element(certificate, at, end, tag)
    return certificate[at : _element(certificate, at, end, _SEQUENCE)[1]]


def _element(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` starts and ends. Raises PinError unless it has this tag and fits."""
    if at + 2 > end or data[at] != tag:
        raise _malformed()
    length, start = data[at + 1], at + 2
    if length >= 0x80:
        size = length - 0x80
        if not 1 <= size <= 4 or start + size > end:
            raise _malformed()
        length, start = int.from_bytes(data[start : start + size]), start + size
        if length < 0x80 or length.bit_length() <= 8 * (size - 1):  # DER: the shortest form only
            raise _malformed()
    if start + length > end:
        raise _malformed()
    return start, start + length


def _malformed() -> PinError:
    return PinError("a certificate of the CA file is malformed")


def parse_pin(text: str) -> str:
    """The pin in its one spelling (lower case). Raises PinError: an empty or short pin must never mean "no pin"."""
    pin = text.strip().lower()
    if not _PIN.fullmatch(pin):
        raise PinError(f"a pin looks like sha256:<64 hex digits>, not {text[:80]!r}")
    return pin


def certificates_of_pem(pem: bytes, *, bytes_max: int = PEM_BYTES_MAX) -> list[bytes]:
    """Every certificate of a PEM bundle in DER, at least one. Raises PinError."""
    if len(pem) > bytes_max:
        raise PinError(f"the CA bundle has more than {bytes_max} bytes")
    try:
        found = [base64.b64decode(b"".join(match[2].split()), validate=True) for match in _PEM.finditer(pem)]
    except binascii.Error:
        raise _malformed() from None
    if not found:
        raise PinError("the CA file holds no PEM certificate")
    return found


def certificates_by_pin(pem: bytes, *, bytes_max: int = PEM_BYTES_MAX) -> dict[str, bytes]:
    """The same by their pins, in their order; of several of one key the last. Raises PinError."""
    return {spki_pin(certificate): certificate for certificate in certificates_of_pem(pem, bytes_max=bytes_max)}


def pins_of_pem(pem: bytes, *, bytes_max: int = PEM_BYTES_MAX) -> list[str]:
    """The pin of every certificate of a PEM bundle, in its order. Raises PinError."""
    return [spki_pin(certificate) for certificate in certificates_of_pem(pem, bytes_max=bytes_max)]


def keep_pinned(pem: bytes, pins: Iterable[str], *, bytes_max: int = PEM_BYTES_MAX) -> bytes:
    """The certificates of a bundle that match one of the pins, as PEM; empty when none does (design P8).

    Raises PinError for a bundle without certificates and for malformed or missing pins.
    """
    wanted = [parse_pin(pin) for pin in pins]
    if not wanted:
        raise PinError("at least one pin is needed")
    kept = [
        certificate
        for certificate in certificates_of_pem(pem, bytes_max=bytes_max)
        if any(hmac.compare_digest(spki_pin(certificate), pin) for pin in wanted)
    ]
    return pem_of(kept)


def pem_of(certificates: Iterable[bytes]) -> bytes:
    """Certificates in DER as a PEM bundle."""
    return b"".join(map(_to_pem, certificates))


def _to_pem(certificate: bytes) -> bytes:
    text = base64.b64encode(certificate)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))
