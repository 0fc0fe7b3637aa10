"""The file with the encryption keys of a hub: what is wrapped by a key in it can be read by nobody else.

One key a line, 32 random bytes in base64 (`openssl rand -base64 32`); blank lines and lines from `#` on say nothing.
The first key encrypts, all of them decrypt. No key has a name: its id is a hash of it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import secrets
from collections.abc import Iterable
from typing import Final

KEY_BYTES: Final = 32
KEYS_MAX: Final = 8
_VARIETY_LEAST: Final = 12
"""Different bytes in a key. Random ones have 30; a typed one that was stretched, or zeros, have few."""
_HEAD: Final = "# Keys of a riata hub, see docs/operate/rotate.md. The first encrypts, all decrypt. Keep a copy.\n"
CURE: Final = "make one with `openssl rand -base64 32`"


class KeyFileError(Exception):
    """The file is no key file. The text names the line and the cure, and never quotes what is in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class EncryptionKey:
    """One key-encryption key (AES-256)."""

    value: bytes = dataclasses.field(repr=False)

    @property
    def id(self) -> str:
        """Public: 64 bits of a hash of the key."""
        return hashlib.sha256(b"riata encryption key id\n" + self.value).hexdigest()[:16]

    @staticmethod
    def new() -> EncryptionKey:
        return EncryptionKey(secrets.token_bytes(KEY_BYTES))


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one file, the one that encrypts first. Never empty."""

    keys: tuple[EncryptionKey, ...]

    @property
    def current(self) -> EncryptionKey:
        return self.keys[0]

    def get(self, key_id: str) -> EncryptionKey | None:
        return next((key for key in self.keys if key.id == key_id), None)


def parse(content: bytes) -> KeyRing:
    """Raises KeyFileError."""
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise KeyFileError(f"is no text: one key a line; {CURE}") from None
    texts = [(number, text) for number, line in enumerate(lines, 1) if (text := line.partition("#")[0].strip())]
    if not texts:
        raise KeyFileError(f"is empty: it needs a key of {KEY_BYTES} random bytes; {CURE}")
    if len(texts) > KEYS_MAX:
        raise KeyFileError(f"has {len(texts)} keys, at most {KEYS_MAX}: remove those that nothing uses any more")
    keys = tuple(_key(number, text) for number, text in texts)
    if len(set(keys)) < len(keys):
        raise KeyFileError("has a key twice: remove the second one")
    return KeyRing(keys)


def render(keys: Iterable[EncryptionKey]) -> bytes:
    """A file with these keys."""
    return (_HEAD + "".join(f"{base64.b64encode(key.value).decode()}\n" for key in keys)).encode()


def _key(number: int, text: str) -> EncryptionKey:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise KeyFileError(f"line {number}: is no base64; {CURE}") from None
    if len(value) != KEY_BYTES:
        raise KeyFileError(f"line {number}: the key has {len(value)} bytes, it needs {KEY_BYTES}; {CURE}")
    if len(set(value)) < _VARIETY_LEAST:
        raise KeyFileError(f"line {number}: the key is not random; {CURE}")
    return EncryptionKey(value)
