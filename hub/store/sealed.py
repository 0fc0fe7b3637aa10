"""Secrets that the hub must be able to read again, sealed in the documents of the store (facts/security.md J2).

What can be compared is kept as a hash and never comes here. A sealed value has a data key of its own, AES-256-GCM with
a random nonce; the data key is wrapped by a key of the key file. Both are bound to the place: kind, cluster, name and
field of the record, so that a value that is moved to another row or column opens nowhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.store.keyfile import KEY_BYTES, KeyRing
from hub.store.model import Document, Key

ALGORITHM: Final = "A256GCM"
NONCE_BYTES: Final = 12
_VERSION: Final = "riata sealed value 1"


class Unsealable(Exception):
    """A sealed value does not open: another key, another place, or changed bytes. Nothing of it is known then."""


class Sealer:
    """Seals and opens with the keys of one ring. `ring` may be replaced by one that has more or fewer keys."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    def seal(self, at: Key, field: str, value: bytes) -> Document:
        """What is stored in `field` of the record at `at`."""
        key, data_key = self.ring.current, os.urandom(KEY_BYTES)
        return {
            "algorithm": ALGORITHM,
            "keyId": key.id,
            "dataKey": _encrypt(key.value, data_key, _bound("data key", at, field, key.id)),
            "value": _encrypt(data_key, value, _bound("value", at, field)),
        }

    def open(self, at: Key, field: str, sealed: Any) -> bytes:
        """The value again. Raises Unsealable."""
        try:
            algorithm, key_id = sealed["algorithm"], sealed["keyId"]
            wrapped, box = sealed["dataKey"], sealed["value"]
        except (KeyError, TypeError):
            raise Unsealable(f"{at}: {field} holds no sealed value") from None
        key = self.ring.get(key_id)
        if algorithm != ALGORITHM or key is None:
            raise Unsealable(f"{at}: {field} is sealed with key {key_id!s:.20}, which the key file does not have")
        try:
            data_key = _decrypt(key.value, wrapped, _bound("data key", at, field, key.id))
            return _decrypt(data_key, box, _bound("value", at, field))
        except (InvalidTag, binascii.Error, ValueError, TypeError):
            raise Unsealable(f"{at}: {field} was changed, or belongs to another record") from None

    def is_current(self, sealed: Any) -> bool:
        """Whether the key that encrypts now has sealed it."""
        return key_id_of(sealed) == self.ring.current.id


def key_id_of(sealed: Any) -> str:
    """The id of the key that a value is sealed with; empty for what is no sealed value."""
    found = sealed.get("keyId") if isinstance(sealed, dict) else None
    return found if isinstance(found, str) else ""


def _bound(what: str, at: Key, field: str, *more: str) -> bytes:
    return json.dumps([_VERSION, what, at.kind, at.cluster, at.name, field, *more]).encode()


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> str:
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plain, bound)).decode()


def _decrypt(key: bytes, text: str, bound: bytes) -> bytes:
    """Raises InvalidTag, ValueError, TypeError."""
    raw = base64.b64decode(text, validate=True)
    return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound)
