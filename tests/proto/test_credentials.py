"""The transcript: one signature for one session, and for nothing else."""

import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from proto import codec, credentials, messages
from tests.proto.pair import INSTANCE, NONCE

SEED = bytes(range(1, 33))
PIN = "sha256:" + "ab" * 32
TRANSCRIPT = messages.Transcript(
    purpose="signature", hub_id="hub-1", nonce=NONCE, pins=(PIN,), cluster="uid-1", token_sha256=b"", role="cluster",
    instance=INSTANCE, epoch=7, signed_at=1_764_000_000_000, key=credentials.public_key(SEED),
)  # fmt: skip


def test_a_key_signs_its_own_transcript() -> None:
    assert credentials.verify(credentials.sign(SEED, TRANSCRIPT), TRANSCRIPT)
    assert len(credentials.new_seed()) == 32
    assert credentials.new_seed() != credentials.new_seed()


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "join"}, {"purpose": "rotate"}, {"hub_id": "hub-2"}, {"nonce": NONCE[::-1]}, {"pins": (PIN, "x")},
        {"pins": ("sha256:" + "ac" * 32,)}, {"cluster": "uid-2"}, {"token_sha256": hashlib.sha256(b"t").digest()},
        {"role": "node"}, {"instance": INSTANCE[::-1]}, {"epoch": 8}, {"signed_at": 1_764_000_000_001},
        {"key": credentials.public_key(SEED[::-1])}, {"key": bytes(32)}, {"key": b"\xff" * 32}, {"ext": {"a": 1}},
    ],
)  # fmt: skip
def test_the_signature_holds_for_nothing_else(change: dict[str, object]) -> None:
    """H6: another nonce, hub, pin or time, and every other field; a key that is no point on the curve never raises."""
    signature = credentials.sign(SEED, TRANSCRIPT)
    assert not credentials.verify(signature, msgspec.structs.replace(TRANSCRIPT, **change))


def test_every_field_is_signed() -> None:
    """A field that is left out of the bytes would be free for an attacker to choose."""
    plain = codec.encode(TRANSCRIPT)
    for name in TRANSCRIPT.__struct_fields__:
        if name != "ext":
            assert name.encode() in plain


def test_the_bytes_are_fixed() -> None:
    """A second implementation signs exactly this: RFC 8032 is deterministic."""
    assert hashlib.sha256(credentials.DOMAIN + codec.encode(TRANSCRIPT)).hexdigest() == (
        "03a78ea01cc102ba4fdcfa9155d07486fbf63ee7e6f5fb49b10ac59d83cfb65c"
    )


def test_a_damaged_signature_proves_nothing() -> None:
    signature = credentials.sign(SEED, TRANSCRIPT)
    for bad in (b"", signature[:-1], bytes(64), bytes([signature[0] ^ 1]) + signature[1:]):
        assert not credentials.verify(bad, TRANSCRIPT)


P, D = 2**255 - 19, -121665 * pow(121666, -1, 2**255 - 19) % (2**255 - 19)
"""The field and the curve, RFC 8032 §5.1: -x² + y² = 1 + D·x²·y²."""


def add(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = one, two
    k = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P,
    )


def encodings(point: tuple[int, int]) -> set[bytes]:
    """Of a point, the canonical one and those that a lax reader takes for it."""
    x, y = point
    ys = [y] + ([y + P] if y + P < 2**255 else [])
    return {(value | (sign << 255)).to_bytes(32, "little") for value in ys for sign in ({x & 1} if x else {0, 1})}


def small_points() -> list[tuple[int, int]]:
    """The eight multiples of a point of order 8."""
    y = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    points = [(0, 1)]
    for _ in range(7):
        points.append(add(points[-1], (x, y)))
    assert add(points[-1], (x, y)) == (0, 1)
    return points


def test_a_key_that_proves_nothing_is_refused() -> None:
    """Under a small-order key the signature (identity, 0) holds for one message in eight, or for all of them."""
    keys = sorted({encoding for point in small_points() for encoding in encodings(point)})
    assert len(keys) == 14
    forged = bytes([1]) + bytes(63)
    everybody = Ed25519PublicKey.from_public_bytes(keys[keys.index(bytes([1]) + bytes(31))])
    everybody.verify(forged, b"whatever")  # what the library says: this is the attack
    for key in keys:
        assert credentials.is_small_order(key)
        for moment in range(32):
            transcript = msgspec.structs.replace(TRANSCRIPT, key=key, signed_at=moment)
            assert not credentials.verify(forged, transcript)
            assert not credentials.verify(
                credentials.sign(SEED, transcript), transcript, by=credentials.public_key(SEED)
            )
    assert not credentials.is_small_order(credentials.public_key(SEED))
