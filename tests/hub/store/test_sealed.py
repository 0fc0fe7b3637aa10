"""Sealed values: open in their own place with their own key, and nowhere else (J2)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from hub.store.keyfile import EncryptionKey, KeyRing
from hub.store.model import Key
from hub.store.sealed import Sealer, Unsealable, key_id_of

CANARY = b"CANARY-4f1c"
AT = Key("s3-profile", "uid-a", "backups")


def sealer(*keys: EncryptionKey) -> Sealer:
    return Sealer(KeyRing(keys or (EncryptionKey.new(),)))


def test_a_value_comes_back_and_shows_nothing() -> None:
    one = sealer()
    for value in (CANARY, b"", b"x" * 100_000):
        sealed = one.seal(AT, "secretKey", value)
        assert one.open(AT, "secretKey", json.loads(json.dumps(sealed))) == value
        assert CANARY.decode() not in json.dumps(sealed)
        assert one.is_current(sealed)
    assert one.seal(AT, "secretKey", CANARY) != one.seal(AT, "secretKey", CANARY)


@pytest.mark.parametrize(
    ("at", "field"),
    [
        (Key("s3-profile", "uid-b", "backups"), "secretKey"),
        (Key("s3-profile", "uid-a", "other"), "secretKey"),
        (Key("event-sink", "uid-a", "backups"), "secretKey"),
        (Key("s3-profile", "", "uid-a"), "secretKey"),
        (AT, "accessKey"),
    ],
)
def test_a_value_in_another_row_or_column_opens_nowhere(at: Key, field: str) -> None:
    """The attack: whoever may write the database puts another cluster's secret where it is shown or used for theirs."""
    one = sealer()
    with pytest.raises(Unsealable):
        one.open(at, field, one.seal(AT, "secretKey", CANARY))


def test_parts_of_two_values_do_not_fit_together() -> None:
    one = sealer()
    first, second = one.seal(AT, "secretKey", CANARY), one.seal(AT, "secretKey", b"other")
    with pytest.raises(Unsealable):
        one.open(AT, "secretKey", {**first, "value": second["value"]})


def test_every_flipped_bit_is_noticed() -> None:
    one = sealer()
    sealed = one.seal(AT, "secretKey", CANARY)
    for name in ("dataKey", "value"):
        raw = base64.b64decode(sealed[name])
        for bit in range(len(raw) * 8):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(Unsealable):
                one.open(AT, "secretKey", {**sealed, name: base64.b64encode(flipped).decode()})


@pytest.mark.parametrize(
    "sealed",
    [
        None, "text", 7, [], {}, {"algorithm": "A256GCM"},
        {"algorithm": "none", "keyId": "", "dataKey": "", "value": ""},
        {"algorithm": "A256GCM", "keyId": 7, "dataKey": "", "value": ""},
    ],
)  # fmt: skip
def test_what_is_no_sealed_value_opens_to_nothing(sealed: Any) -> None:
    with pytest.raises(Unsealable):
        sealer().open(AT, "secretKey", sealed)


@pytest.mark.parametrize("part", ["dataKey", "value"])
@pytest.mark.parametrize("bad", ["", "AA==", "%%%", None, 7, "x" * 1000])
def test_parts_that_are_none(part: str, bad: Any) -> None:
    one = sealer()
    with pytest.raises(Unsealable):
        one.open(AT, "secretKey", {**one.seal(AT, "secretKey", CANARY), part: bad})


def test_an_older_key_opens_and_no_longer_seals() -> None:
    old, new = EncryptionKey.new(), EncryptionKey.new()
    sealed = sealer(old).seal(AT, "secretKey", CANARY)
    both = sealer(new, old)
    assert both.open(AT, "secretKey", sealed) == CANARY
    assert not both.is_current(sealed)
    assert key_id_of(both.seal(AT, "secretKey", CANARY)) == new.id
    with pytest.raises(Unsealable, match=old.id):
        sealer(new).open(AT, "secretKey", sealed)
    assert key_id_of("x") == key_id_of({"keyId": 7}) == ""
