"""Which CAs the hub has told this agent to trust, kept so that a restart in the middle of a rotation finds them.

They take the place of the CAs that the settings lead to for as long as the settings name the same pins: whoever changes
the pins (a new manifest) has the last word, and what was learnt is forgotten.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec

from agent import durable
from agent.errors import AgentError

ENTRY: Final = "hub-ca.json"
"""The entry of the agent's Secret that holds it."""
BYTES_MAX: Final = 64 * 1024
PINS_MAX: Final = 8


class CaUnusable(AgentError):
    """What was learnt cannot be read or kept. The text names the place. `may_pass`: nobody has to change anything, as
    when an API server restarts."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class HubCa(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept."""

    settings: Annotated[tuple[str, ...], msgspec.Meta(max_length=PINS_MAX)]
    """Pins that the settings named when it was learnt."""
    ca: Annotated[str, msgspec.Meta(max_length=BYTES_MAX // 2)]
    """PEM of every CA that is trusted instead of what the settings lead to."""


class CaStore(Protocol):
    """One place for it."""

    async def load(self) -> HubCa | None:
        """Raises CaUnusable."""

    async def save(self, known: HubCa) -> None:
        """Durable on return. Raises CaUnusable."""


def encode(known: HubCa) -> bytes:
    return msgspec.json.encode(known)


def decode(content: bytes, place: str) -> HubCa:
    """Raises CaUnusable."""
    try:
        return msgspec.json.decode(content, type=HubCa)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise CaUnusable(f"{place} does not hold the hub's CAs: remove it; the agent learns them again") from None


class CaFile:
    """A file beside the agent's key, for an agent outside Kubernetes. Blocking work is done in a thread."""

    def __init__(self, key_file: Path) -> None:
        self._path = key_file.with_name(f"{key_file.name}.hub-ca")

    async def load(self) -> HubCa | None:
        return await asyncio.to_thread(self._load)

    async def save(self, known: HubCa) -> None:
        await asyncio.to_thread(self._save, known)

    def _load(self) -> HubCa | None:
        try:
            with self._path.open("rb") as file:
                return decode(file.read(BYTES_MAX), str(self._path))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise CaUnusable(f"{self._path} cannot be read: {exc.strerror}") from exc

    def _save(self, known: HubCa) -> None:
        """Whole or not at all, and on the disk; nothing where it is there already."""
        with contextlib.suppress(CaUnusable):
            if self._load() == known:
                return
        try:
            durable.replace(self._path, encode(known))
        except OSError as exc:
            raise CaUnusable(f"{self._path} cannot be written: {exc.strerror}") from exc


class Unkept:
    """For an agent without a place of its own: it learns anew in each process."""

    async def load(self) -> HubCa | None:
        return None

    async def save(self, known: HubCa) -> None:
        raise CaUnusable("this agent has no place to keep the hub's CAs")
