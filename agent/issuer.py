"""Telling the hub who signs this cluster's ServiceAccount tokens: they prove the node agents (design D6).

Asked of the API server when a session opens and every few minutes, so that a rotation of the cluster's signing keys is
known at the hub long before the old keys go. Which ServiceAccounts count follows from the agent's own name.
"""

import asyncio
import base64
import binascii
import json
import logging
import re
from typing import Any, Final

import msgspec

from agent.errors import TokenUnavailable
from agent.failures import Failures
from agent.kube import KubeApi, KubeError
from agent.kubeconfig import KubeAccess
from agent.uplink.credentials import Proven
from proto.aio.commands import call
from proto.aio.link import Link
from proto.commands import REGISTER_ISSUER, RegisterIssuer
from proto.errors import Code, RiataError, StreamReset

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 300.0
RETRY_S: Final = 30.0
NODE: Final = "-node"
"""What the name of the ServiceAccount of the node agents has behind the cluster agent's own."""
FALLBACK: Final = "-node-fallback"
"""The same for those that may serve."""
SUFFIXES: Final = (NODE, FALLBACK)
"""The same for all node agents, as the charts make them."""
_SUBJECT: Final = re.compile(r"system:serviceaccount:[a-z0-9-]+:[a-z0-9.-]+")
_DISCOVERY: Final = "/.well-known/openid-configuration"
_KEYS: Final = "/openid/v1/jwks"


class IssuerRegistration:
    """A duty of each session of a cluster agent."""

    def __init__(self, api: KubeApi, access: KubeAccess) -> None:
        self._api = api
        self._access = access
        self._failures = Failures(
            logger, "the cluster's token issuer is not registered: node agents cannot join until it is"
        )

    async def tend(self, link: Link, proven: Proven) -> None:
        """Register, and again when something has changed. Cancelled with the session."""
        told: RegisterIssuer | None = None
        while True:
            delay = INTERVAL_S
            try:
                found = await self._find()
                if found != told:
                    await _register(link, found)
                    told = found
                self._failures.over()
            except (KubeError, TokenUnavailable, RiataError, TimeoutError, ValueError) as exc:
                delay = RETRY_S
                self._failures.note(exc)
            await asyncio.sleep(delay)

    async def _find(self) -> RegisterIssuer:
        """Raises KubeError, TokenUnavailable, ValueError."""
        discovery, keys = await self._api.get(_DISCOVERY), await self._api.get(_KEYS)
        issuer = discovery.get("issuer") if isinstance(discovery, dict) else None
        if not isinstance(issuer, str) or not isinstance(keys, dict):
            raise ValueError("the API server's discovery documents are malformed")
        name = own_name(self._access)
        jwks = json.dumps({"keys": [_public(key) for key in keys.get("keys", [])]}, sort_keys=True)
        subjects = tuple(f"{name}{suffix}" for suffix in SUFFIXES)
        return RegisterIssuer(issuer=issuer, jwks=jwks, subjects=subjects, fallback=f"{name}{FALLBACK}")


async def _register(link: Link, found: RegisterIssuer) -> None:
    """Raises RiataError, TimeoutError. A hub one version older does not know of fallback and refuses its field."""
    try:
        await call(link, REGISTER_ISSUER, found)
    except StreamReset as refused:
        if refused.code is not Code.PROTOCOL or not found.fallback:
            raise
        await call(link, REGISTER_ISSUER, msgspec.structs.replace(found, fallback=""))
        logger.warning("the hub is older than this agent: no node agent serves requests until it is upgraded")


def own_name(access: KubeAccess) -> str:
    """`system:serviceaccount:NAMESPACE:NAME` of this agent, from its own token. Raises ValueError, TokenUnavailable."""
    header = access.credential.authorization(asyncio.get_running_loop().time())
    try:
        payload = header.removeprefix(b"Bearer ").split(b".")[1]
        subject = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["sub"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        subject = ""
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise ValueError("this agent has no ServiceAccount token of its own")
    return subject


def _public(key: Any) -> dict[str, Any]:
    """The members of a public key that matter; whatever else an API server may add stays here."""
    if not isinstance(key, dict):
        raise ValueError("the API server's key set is malformed")
    wanted = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
    return {name: key[name] for name in wanted if name in key}
