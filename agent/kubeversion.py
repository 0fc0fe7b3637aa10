"""The API server's version, for the hub's lists. Display only; nothing depends on it."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from agent.errors import TokenUnavailable
from agent.kubeconfig import KubeAccess
from agent.uplink import fetch
from agent.uplink.credentials import Proven
from proto.aio.commands import call
from proto.aio.link import Link
from proto.commands import TELL_VERSION, TellVersion
from proto.errors import Code, RiataError, StreamReset

logger = logging.getLogger(__name__)

TIMEOUT: Final = 2.0
"""Seconds that a session may wait for it."""
REFRESH_INTERVAL: Final = 300.0
"""Seconds that an answer is good for."""
TEXT_MAX: Final = 64


class KubeVersion:
    """`GET /version` with the agent's own token, kept for five minutes."""

    def __init__(self, access: KubeAccess, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._access = access
        self._sleep = sleep
        self._text = ""
        self._said = ""
        """What the last session began with."""
        self._asked_at = float("-inf")

    async def begin(self) -> str:
        """As `get`, for a session that is about to be opened; they are opened one at a time."""
        self._said = await self.get()
        return self._said

    async def get(self) -> str:
        """`v1.37.2`, or what was known last, or "". Never raises for a network reason, takes at most TIMEOUT."""
        now = asyncio.get_running_loop().time()
        if self._text and now - self._asked_at < REFRESH_INTERVAL:
            return self._text
        self._asked_at = now
        try:
            async with asyncio.timeout(TIMEOUT):
                self._text = await self._ask(now)
        except (OSError, ValueError, KeyError, TypeError, TokenUnavailable) as exc:
            logger.debug("API server's version unknown", extra={"error": str(exc)})
        return self._text

    async def tend(self, link: Link, _proven: Proven) -> None:
        """A duty of each session of a cluster agent: say it when it is not what the session began with: the API server
        did not answer then, or has another version since. Cancelled with the session."""
        told = self._said
        while True:
            found = await self.get()
            try:
                if found != told:
                    await call(link, TELL_VERSION, TellVersion(kubernetes=found))
                    told = found
            except (RiataError, TimeoutError) as exc:
                if isinstance(exc, StreamReset) and exc.code is Code.FORBIDDEN:
                    return  # the hub is older than this agent
                logger.debug("the hub does not know the API server's version", extra={"error": str(exc)})
            await self._sleep(REFRESH_INTERVAL)

    async def _ask(self, now: float) -> str:
        endpoint = self._access.endpoint
        addresses = self._access.addresses
        host, port = (endpoint.host, endpoint.port) if addresses is None else addresses.candidates()[0]
        context = self._access.trust.context()
        answer = await fetch.ask(
            host,
            port,
            f"{endpoint.base_path.decode()}/version",
            context=context,
            server_name=endpoint.server_name,
            authorization=self._access.credential.authorization(now),
        )
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        version = json.loads(answer.body)["gitVersion"]
        if not isinstance(version, str) or not version.isprintable():
            raise ValueError("no gitVersion")
        return version[:TEXT_MAX]
