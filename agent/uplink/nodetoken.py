"""A node agent's credential: the projected ServiceAccount token of its pod, which the kubelet renews.

It is read at each connect; while a session is open, each fresher one is presented over it, and the hub ends the
session soon after the last one ends (design P12). Nothing else is kept or sent.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.uplink.credentials import Claims, Proven, mark_of
from agent.uplink.diagnose import ConnectFailed, of_cause
from proto import causes
from proto.aio.commands import Handler, call
from proto.aio.link import Link
from proto.commands import PRESENT_TOKEN, RENEW_TOKEN, PresentToken, Verb
from proto.errors import Code, RiataError, StreamReset
from proto.messages import Credential, HubHello, Welcome
from proto.tokenrenewal import difference, signed_part

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S: Final = 5.0
"""How often the file is looked at; the kubelet renews a token two minutes before it ends."""
TOKEN_BYTES_MAX: Final = 16 * 1024
_JWT: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class NodeTokenFile:
    """Implements HubCredential."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown = b""

    async def prepare(self) -> None:
        pass

    def present(self, hello: HubHello, claims: Claims) -> Credential:
        token = self._read()
        if not token:
            said = f"--token-file {self._path} holds no ServiceAccount token"
            raise ConnectFailed(of_cause(causes.CREDENTIAL_NO_PROJECTION, said=said))
        self._shown = token
        return Credential(scheme="service-account", value=token)

    async def welcomed(self, welcome: Welcome) -> None:
        pass

    def refused(self, code: Code) -> bool:
        return False

    async def tend(self, link: Link, proven: Proven) -> None:
        """Present each fresher token. Cancelled with the session."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            token = self._read()
            if not token or token == self._shown:
                continue
            try:
                await self._present(link, token.decode("ascii"))
                self._shown = token
            except (RiataError, TimeoutError) as exc:
                logger.warning("the hub does not take the fresher token", extra={"error": str(exc)})

    async def _present(self, link: Link, token: str) -> None:
        """As what differs from the one that the hub has; whole where that is not much less, or not taken. Raises
        RiataError, TimeoutError."""
        changes = difference(signed_part(self._shown.decode("ascii")), token)
        if changes is not None:
            try:
                await call(link, RENEW_TOKEN, changes)
                return
            except StreamReset as refused:  # an older hub, or one that took another token last
                logger.info("the hub wants the whole token", extra={"code": refused.code.name})
        await call(link, PRESENT_TOKEN, PresentToken(token=token))

    def handlers(self, link: Link, proven: Proven) -> Mapping[Verb, Handler]:
        return {}

    def mark(self) -> object:
        return mark_of(self._path)

    def _read(self) -> bytes:
        """The token; empty while there is none."""
        try:
            with self._path.open("rb") as file:
                token = file.read(TOKEN_BYTES_MAX + 1).strip()
        except OSError:
            return b""
        return token if len(token) <= TOKEN_BYTES_MAX and _JWT.fullmatch(token) else b""
