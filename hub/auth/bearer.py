"""The text form of tokens: `riata_<id>_<secret>` for people and programs, `riataagent_<id>_<secret>` for agents,
`riatajoin_<id>_<secret>` for an agent that is about to enrol.

The id finds the record, so nothing secret is ever looked up; the secret is compared in constant time as a SHA-256. A
slow password hash would add nothing to 256 random bits but a way to burn the hub's CPU (facts/security.md §2.H, H9).
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets
import string
from typing import Final, NamedTuple

USER_PREFIX: Final = "riata"
AGENT_PREFIX: Final = "riataagent"
JOIN_PREFIX: Final = "riatajoin"
ID_LENGTH: Final = 10
SECRET_LENGTH: Final = 64
TOKEN_BYTES_MAX: Final = len(AGENT_PREFIX) + 1 + ID_LENGTH + 1 + SECRET_LENGTH

_ALPHABET: Final = string.ascii_lowercase + string.digits
_TOKEN: Final = re.compile(rb"(riata|riataagent|riatajoin)_([a-z0-9]{10})_([0-9a-f]{64})")
_NO_DIGEST: Final = bytes(32)


class Presented(NamedTuple):
    """A well-formed token as a caller sent it: what it claims to be and the digest of its secret."""

    prefix: str
    id: str
    digest: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Minted:
    """A new token. `text` is the only place where the secret exists; show it once, keep `digest`."""

    id: str
    text: str = dataclasses.field(repr=False)
    digest: bytes = dataclasses.field(repr=False)


def mint(prefix: str) -> Minted:
    """A new random token with an id of 10 and a secret of 64 characters (256 bits)."""
    token_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
    secret = secrets.token_hex(SECRET_LENGTH // 2)
    return Minted(token_id, f"{prefix}_{token_id}_{secret}", hashlib.sha256(secret.encode()).digest())


def parse(bearer: bytes) -> Presented | None:
    """None for anything that is not exactly a token; never raises."""
    match = _TOKEN.fullmatch(bearer)
    if match is None:
        return None
    prefix, token_id, secret = match.groups()
    return Presented(prefix.decode(), token_id.decode(), hashlib.sha256(secret).digest())


class Bearer:
    """A credential as a caller sent it. It is read once, however often it is checked: `presented` lives as long as it
    does, which is as long as the caller's connection remembers its last request."""

    __slots__ = ("_is_read", "_presented", "text")

    def __init__(self, text: bytes) -> None:
        """`text` empty: no usable credential."""
        self.text = text
        self._is_read = False
        self._presented: Presented | None = None

    def __repr__(self) -> str:
        return "<Bearer>"

    @property
    def presented(self) -> Presented | None:
        """As `parse`."""
        if not self._is_read:
            self._is_read, self._presented = True, parse(self.text)
        return self._presented


def matches(presented: Presented, digest: bytes | None) -> bool:
    """Constant-time comparison; `digest` None (no such record) costs the same and is never equal."""
    is_equal = hmac.compare_digest(presented.digest, _NO_DIGEST if digest is None else digest)
    return is_equal and digest is not None
