"""What the agent shows to the hub: the interface, and the cluster's reusable agent token. Keys are in
agent.uplink.enrolment.

A secret goes into the AUTH message behind a verified TLS connection, never into a URL or a header (design P5).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.uplink.diagnose import ConnectFailed, of_cause
from proto import causes
from proto.aio.commands import Handler
from proto.aio.link import Link
from proto.commands import Verb
from proto.errors import Code
from proto.messages import Credential, HubHello, Welcome

TOKEN_BYTES_MAX: Final = 1024
_TOKEN: Final = re.compile(rb"riataagent_[a-z0-9]{10}_[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What the agent says of itself in the session that a proof is for."""

    role: str
    instance: bytes
    epoch: int
    pins: tuple[str, ...]
    """The pin of the CA that the hub's chain on this connection ends in, or of every trusted one."""


@dataclass(frozen=True, slots=True)
class Proven:
    """An open session, as far as a later proof on it needs it."""

    hello: HubHello
    claims: Claims


class HubCredential(Protocol):
    """Makes the credential of each session, hears what became of it, and looks after it while it is open."""

    async def prepare(self) -> None:
        """Before a dial: read or make what is shown. Raises ConnectFailed when there is nothing to show."""

    def present(self, hello: HubHello, claims: Claims) -> Credential:
        """The proof for this hub and nonce. Raises ConnectFailed when there is none to show."""

    async def welcomed(self, welcome: Welcome) -> None:
        """The hub took it. Must not raise: the session is open."""

    def refused(self, code: Code) -> bool:
        """The hub did not. Whether something else can be shown at once."""

    async def tend(self, link: Link, proven: Proven) -> None:
        """Do what the credential needs while the session is open: renew it. Cancelled at its end."""

    def handlers(self, link: Link, proven: Proven) -> Mapping[Verb, Handler]:
        """Commands of the hub that concern the credential."""

    def mark(self) -> object:
        """A value that changes when another credential would be shown: worth an early attempt after a refusal."""


def mark_of(path: Path) -> object:
    """What changes when a file is replaced."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


class AgentTokenFile:
    """The agent token, read anew for each session so that a replaced Secret needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def prepare(self) -> None:
        pass

    async def welcomed(self, welcome: Welcome) -> None:
        pass

    def refused(self, code: Code) -> bool:
        return False

    async def tend(self, link: Link, proven: Proven) -> None:
        pass

    def handlers(self, link: Link, proven: Proven) -> Mapping[Verb, Handler]:
        return {}

    def present(self, hello: HubHello, claims: Claims) -> Credential:
        try:
            with self._path.open("rb") as file:
                token = file.read(TOKEN_BYTES_MAX).strip()
        except OSError as exc:
            raise self._unusable(f"cannot be read ({exc.strerror})") from exc
        if not _TOKEN.fullmatch(token):
            raise self._unusable("does not hold an agent token (riataagent_…)")
        return Credential(scheme="bearer", value=token)

    def mark(self) -> object:
        return mark_of(self._path)

    def _unusable(self, what: str) -> ConnectFailed:
        return ConnectFailed(of_cause(causes.CREDENTIAL_NO_TOKEN, said=f"--token-file {self._path} {what}"))
