"""How an agent's key proves itself: one canonical transcript, signed with Ed25519 (RFC 8032).

The signature is over a domain, then the canonical msgpack of `proto.messages.Transcript` (docs/protocol.md §3.1). The
hub's fresh nonce makes a recording worthless, the hub's id and the pins make it worthless to any other hub and to
whoever stands in between with another CA, the purpose to any other step of this protocol.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from proto import codec
from proto.messages import Transcript

DOMAIN: Final = b"riata agent credential v1\n"
"""Goes before the transcript: a key that signs something else elsewhere never signs this."""

SIGNATURE: Final = "signature"
JOIN: Final = "join"
ROTATE: Final = "rotate"
RENEW: Final = "renew"

SKEW_MAX_S: Final = 300.0
"""How far the agent's clock may be from the hub's. The nonce makes a signature fresh; the window bounds what a hub
with a broken random source would accept, and names clocks that will break other things."""


_SIGN: Final = 0x80
_SMALL_ORDER: Final = frozenset(
    map(
        bytes.fromhex,
        (
            "00" * 32,
            "01" + "00" * 31,
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "ec" + "ff" * 30 + "7f",
            "ed" + "ff" * 30 + "7f",
            "ee" + "ff" * 30 + "7f",
        ),
    )
)
"""Encodings, the sign aside, of the eight points whose order divides the cofactor: under them one signature holds for
many messages or for all, so that nobody in particular has signed (RFC 8032 §5.1.7, libsodium's list)."""


def is_small_order(key: bytes) -> bool:
    """Whether a public key of 32 bytes is one that proves nothing."""
    return len(key) == 32 and key[:31] + bytes([key[31] & ~_SIGN]) in _SMALL_ORDER


def new_seed() -> bytes:
    """A new private key: 32 secret bytes from the operating system."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_key(seed: bytes) -> bytes:
    """The public key of a private one. Raises ValueError unless it has 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, transcript: Transcript) -> bytes:
    """The signature of a transcript. Raises ValueError for a malformed key."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(DOMAIN + codec.encode(transcript))


def verify(signature: bytes, transcript: Transcript, *, by: bytes = b"") -> bool:
    """Whether the transcript's own key, or the public key `by`, has signed it. Never raises for what a peer sent."""
    if is_small_order(by or transcript.key) or is_small_order(transcript.key):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(by or transcript.key)
        key.verify(signature, DOMAIN + codec.encode(transcript))
    except (InvalidSignature, ValueError):
        return False
    return True
