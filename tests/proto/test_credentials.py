"""The transcript: one signature for one session, and for nothing else."""

import hashlib

import msgspec
import pytest

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
