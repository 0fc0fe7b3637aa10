"""What the agent shows to the hub. In this version the cluster's reusable agent token; a signature replaces it later.

The token goes into the AUTH message behind a verified TLS connection, never into a URL or a header (design P5).
"""

import re
from pathlib import Path
from typing import Final, Protocol

from agent.uplink.diagnose import ConnectFailed, Diagnosis, Step
from proto.messages import Credential, HubHello

TOKEN_BYTES_MAX: Final = 1024
_TOKEN: Final = re.compile(rb"riataagent_[a-z0-9]{10}_[0-9a-f]{64}")


class HubCredential(Protocol):
    """Makes the credential of one session."""

    def present(self, hello: HubHello) -> Credential:
        """The proof for this hub and nonce. Raises ConnectFailed when there is none to show."""

    def mark(self) -> object:
        """A value that changes when another credential would be shown: worth an early attempt after a refusal."""


class AgentTokenFile:
    """The agent token, read anew for each session so that a replaced Secret needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def present(self, hello: HubHello) -> Credential:
        try:
            with self._path.open("rb") as file:
                token = file.read(TOKEN_BYTES_MAX).strip()
        except OSError as exc:
            raise self._unusable(f"cannot be read ({exc.strerror})") from exc
        if not _TOKEN.fullmatch(token):
            raise self._unusable("does not hold an agent token (riataagent_…)")
        return Credential(scheme="bearer", value=token)

    def mark(self) -> object:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _unusable(self, what: str) -> ConnectFailed:
        return ConnectFailed(
            Diagnosis(
                Step.CREDENTIAL,
                f"--token-file {self._path} {what}",
                "Create an agent token at the hub (riata agent-tokens create) and put it there; the agent notices",
                is_slow=True,
            )
        )
