"""Key files: what is one, and everything that is none refused with its cure and without its content (J3)."""

from __future__ import annotations

import base64

import pytest

from hub.store import keyfile
from hub.store.keyfile import KEYS_MAX, EncryptionKey, KeyFileError

GOOD = base64.b64encode(bytes(range(32))).decode()


def test_a_file_is_read_as_it_was_written() -> None:
    keys = (EncryptionKey.new(), EncryptionKey.new())
    ring = keyfile.parse(keyfile.render(keys))
    assert ring.keys == keys
    assert ring.current == keys[0]
    assert ring.get(keys[1].id) == keys[1]
    assert ring.get("none") is None
    assert len({key.id for key in keys}) == 2
    assert keys[0].value.hex() not in repr(ring)


def test_what_openssl_writes_is_a_key_file() -> None:
    assert keyfile.parse(f"{GOOD}\n".encode()).current.value == bytes(range(32))
    assert keyfile.parse(f"\n# old ones below\n  {GOOD}  # of May\n".encode()).current.value == bytes(range(32))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n# nothing\n\n", "is empty"),
        (base64.b64encode(bytes(range(16))), "line 1: the key has 16 bytes, it needs 32"),
        (base64.b64encode(bytes(range(33))), "line 1: the key has 33 bytes"),
        (base64.b64encode(bytes(32)), "not random"),
        (base64.b64encode(b"password" * 4), "not random"),
        (b"hunter2!", "no base64"),
        (f"{GOOD}\n{GOOD}\n".encode(), "twice"),
        (f"{GOOD}\nx\n".encode(), "line 2"),
        (b"\xff" * 32, "is no text"),
        (keyfile.render(EncryptionKey.new() for _ in range(KEYS_MAX + 1)), "at most 8"),
    ],
)
def test_what_is_no_key_is_refused_and_not_quoted(content: bytes, says: str) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        keyfile.parse(content)
    secret = content.strip().splitlines()[0].decode("latin-1") if content.strip() else ""
    assert len(secret) < 8 or secret.startswith("#") or secret not in str(caught.value)
