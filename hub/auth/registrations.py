"""What the agents of a cluster say about their cluster, kept and audited."""

from __future__ import annotations

import logging
from typing import Final

from hub import audit
from hub.audit import Audit
from hub.auth.agents import AgentIdentity
from hub.auth.issuers import Issuers, key_set
from hub.auth.pods import Pods
from proto.commands import RegisterIssuer, RegisterPods

logger = logging.getLogger(__name__)

_SHOWN: Final = 200
"""Characters of an agent's own text in an audit record."""


class Registrations:
    """Writes to the store. Who is concerned comes from the identity of the session."""

    def __init__(self, issuers: Issuers, pods: Pods) -> None:
        self._issuers = issuers
        self._pods = pods

    async def issuer(self, who: AgentIdentity, args: RegisterIssuer) -> None:
        """Raises StreamReset, StoreError."""
        if not await self._issuers.register(who.cluster_uid, who.credential_id, args):
            return
        logger.info("token issuer registered", extra={"cluster": who.cluster_name})
        audit.record(
            Audit.ISSUER_REGISTERED,
            agent=who.credential_id,
            cluster=who.cluster_name,
            issuer=args.issuer[:_SHOWN],
            keys=[key.thumbprint() for key in key_set(args.jwks).keys],
            subjects=[subject[:_SHOWN] for subject in args.subjects],
            fallback=args.fallback[:_SHOWN],
        )

    async def pods(self, who: AgentIdentity, args: RegisterPods) -> None:
        """Raises StreamReset, StoreError."""
        if await self._pods.register(who.cluster_uid, who.credential_id, args):
            audit.record(
                Audit.PODS_REGISTERED,
                agent=who.credential_id,
                cluster=who.cluster_name,
                part=args.part,
                parts=args.parts,
                pods=len(args.pods),
            )
