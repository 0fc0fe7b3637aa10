"""The agent's own key and where it is kept: always by compare-and-swap, because replicas of a Deployment share it.

What is kept is one small JSON document. `cluster_uid` is written when the hub has taken the key; until then the agent
shows its join token. `next` is a key that the hub may already know: it is kept before the hub hears of it, so that a
crash at any step leaves a key that works.
"""

import asyncio
import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec

from agent import durable
from agent.errors import AgentError

BYTES_MAX: Final = 16 * 1024
SEED_BYTES: Final = 32


class KeyUnusable(AgentError):
    """The key cannot be read, kept or made. The text names the place and the cure, never what it holds. `may_pass`:
    nobody has to change anything, as when an API server restarts."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class KeyConflict(AgentError):
    """Another replica was faster: load again."""


class KeyPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Ed25519 key. `made_at`: seconds since the epoch."""

    seed: Annotated[bytes, msgspec.Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    made_at: float

    def __repr__(self) -> str:
        return "KeyPair(…)"


class KeyState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept."""

    current: KeyPair
    cluster_uid: str = ""
    """The cluster that the hub has enrolled `current` for; empty until it has."""
    next: KeyPair | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What was found, and the version to name when it is replaced; None where nothing is kept yet."""

    state: KeyState | None
    version: str


class KeyStore(Protocol):
    """One place for one key."""

    place: str
    """Where it is, for the log."""

    async def load(self) -> Kept:
        """Raises KeyUnusable."""

    async def save(self, state: KeyState, version: str) -> Kept:
        """Replace what is still at `version`; durable on return. Raises KeyConflict, KeyUnusable."""


def encode(state: KeyState) -> bytes:
    return msgspec.json.encode(state)


def decode(content: bytes, place: str) -> KeyState:
    """Raises KeyUnusable."""
    try:
        return msgspec.json.decode(content, type=KeyState)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # The library's text may quote the input.
        raise KeyUnusable(f"{place} holds no agent key: remove it, and join with a new join token") from None


class KeyFile:
    """A file of mode 0600, for an agent outside Kubernetes. Blocking work is done in a thread."""

    def __init__(self, path: Path) -> None:
        self.place = f"--key-file {path}"
        self._path = path

    async def load(self) -> Kept:
        return await asyncio.to_thread(self._load)

    async def save(self, state: KeyState, version: str) -> Kept:
        return await asyncio.to_thread(self._save, state, version)

    def _load(self) -> Kept:
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(BYTES_MAX + 1)
        except FileNotFoundError:
            return Kept(None, "")
        except OSError as exc:
            raise KeyUnusable(f"{self.place} cannot be read: {exc.strerror}") from exc
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise KeyUnusable(f"{self.place} may be read by others: chmod 600 it, or make a new key if it was")
        return Kept(decode(content[:BYTES_MAX], self.place), hashlib.sha256(content).hexdigest())

    def _save(self, state: KeyState, version: str) -> Kept:
        content = encode(state)
        try:
            lock = os.open(
                self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._load().version != version:
                    raise KeyConflict(f"{self.place} was changed by another process")
                durable.replace(self._path, content)
            finally:
                os.close(lock)
        except OSError as exc:
            raise KeyUnusable(f"{self.place} cannot be written: {exc.strerror}") from exc
        return Kept(state, hashlib.sha256(content).hexdigest())
