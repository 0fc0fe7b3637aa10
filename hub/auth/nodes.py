"""Node agents: proven by the ServiceAccount token of their pod, checked offline (design D6, P12).

The token names its audience `riata:<hub id>:<cluster uid>`, so it is worth nothing to anybody else, and the cluster
follows from it; the cluster's registered keys prove it, its subject must be one that the cluster's agent registered
(else whoever may make a pod could be a node agent), and pod and node come from its claims.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError

from hub.auth.agents import AgentIdentity, Challenge, ClusterLookup, CredentialRefused
from hub.auth.issuers import Issuer, IssuerIndex, proof
from hub.auth.pods import PodIndex
from hub.clock import Clock, rfc3339
from hub.store.interface import Store
from hub.store.model import Event, Key, Resource, RevisionConflict
from proto.errors import Code
from proto.messages import AgentAuth
from proto.rationing import RationedLog

logger = logging.getLogger(__name__)

ROLE_NODE: Final = "node"
DENIAL_KIND: Final = "node-denial"
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""What a kube-apiserver signs with. Never `none`, never a symmetric one."""
TOKEN_BYTES_MAX: Final = 16 * 1024
LIFETIME_MAX_S: Final = 900.0
"""A token that lives longer is refused: the manifest asks for ten minutes, the least that an API server gives."""
SKEW_S: Final = 60.0
"""How far the API server's clock may be ahead of the hub's."""

_TIME_MAX: Final = 1e11
"""Seconds since the epoch, some three thousand years: beyond is no time but an attack (JSON has NaN and 1e300 here)."""
NODE_PATTERN: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,214}[a-z0-9])?")


def audience(hub_id: str, cluster_uid: str) -> str:
    """What a node agent's token must be for."""
    return f"riata:{hub_id}:{cluster_uid}"


def credential_id(cluster_name: str, node: str) -> str:
    """How a node agent is called in lists and commands."""
    return f"{cluster_name}:{node}"


class DenialIndex:
    """Nodes whose agents are not let in. `on_denied` hears of (cluster uid, node), to cut their sessions."""

    kind: str = DENIAL_KIND

    def __init__(self) -> None:
        self._denied: dict[tuple[str, str], float] = {}
        self.on_denied: Any = lambda cluster_uid, node: None

    def since(self, cluster_uid: str, node: str) -> float | None:
        """When the node was denied, None if it is not."""
        return self._denied.get((cluster_uid, node))

    def of_cluster(self, cluster_uid: str) -> dict[str, float]:
        """Node → since when."""
        return {node: since for (uid, node), since in self._denied.items() if uid == cluster_uid}

    def reset(self, resources: Iterable[Resource]) -> None:
        before, self._denied = self._denied, {}
        for resource in resources:
            self._load(resource)
        for uid, node in self._denied.keys() - before.keys():
            self.on_denied(uid, node)

    def apply(self, event: Event) -> None:
        at = (event.resource.key.cluster, event.resource.key.name)
        before = self._denied.pop(at, None)
        if not event.is_deleted:
            self._load(event.resource)
            if before is None:
                self.on_denied(*at)

    def _load(self, resource: Resource) -> None:
        since = resource.spec.get("deniedAt")
        # Fail closed: an entry that cannot be read denies all the same.
        at = float(since) if isinstance(since, int | float) else 0.0
        self._denied[resource.key.cluster, resource.key.name] = at


class Denials:
    """Writes to the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def deny(self, cluster_uid: str, node: str, *, by: str) -> int:
        """The revision from which the node is denied."""
        at = Key(DENIAL_KIND, cluster_uid, node)
        try:
            spec = {"deniedAt": self._clock(), "deniedBy": by}
            return (await self._store.put(Resource(at, spec))).revision
        except RevisionConflict as exc:
            return exc.actual

    async def allow(self, cluster_uid: str, node: str) -> int | None:
        """Take a denial back; None if there was none."""
        return await self._store.delete(Key(DENIAL_KIND, cluster_uid, node))


@dataclasses.dataclass(frozen=True, slots=True)
class NodeClaims:
    """What a good token says."""

    cluster_uid: str
    node: str
    pod: str
    expires_at: float
    subject: str
    rests_on: str
    is_fallback: bool = False


class NodeTokens:
    """Checks tokens against the registered issuers."""

    def __init__(
        self,
        issuers: IssuerIndex,
        denials: DenialIndex,
        pods: PodIndex,
        clusters: ClusterLookup,
        is_live: Callable[[str, str], bool],
        clock: Clock,
    ) -> None:
        """`is_live` (cluster uid, credential id): whether what this agent registered still counts."""
        self._issuers = issuers
        self._is_live = is_live
        self._denials = denials
        self._pods = pods
        self._clusters = clusters
        self._clock = clock
        self._strangers = RationedLog(logger, time.monotonic)

    def identity(self, token: bytes, hub_id: str) -> AgentIdentity:
        """Who shows this token. Raises CredentialRefused."""
        claims = self._check(token, hub_id)
        name = self._clusters.name_of(claims.cluster_uid)
        if name is None:
            raise CredentialRefused
        denied = self._denials.since(claims.cluster_uid, claims.node)
        if denied is not None:
            raise CredentialRefused(f"this node was revoked at {rfc3339(denied)}", code=Code.REVOKED)
        return AgentIdentity(
            cluster_uid=claims.cluster_uid,
            cluster_name=name,
            credential_id=credential_id(name, claims.node),
            role=ROLE_NODE,
            node=claims.node,
            pod=claims.pod,
            expires_at=claims.expires_at,
            subject=claims.subject,
            is_fallback=claims.is_fallback,
            rests_on=claims.rests_on,
        )

    def vouches(self, cluster_uid: str, rests_on: str) -> bool:
        """Whether a live agent of the cluster still stands for what a session's token rested on."""
        issuer = self._issuer(cluster_uid)
        return issuer is not None and rests_on in issuer.proofs

    def still_holds(self, identity: AgentIdentity) -> bool:
        """Whether a token of the same ServiceAccount would give its node agent the same rights today."""
        issuer = self._issuer(identity.cluster_uid)
        return issuer is not None and issuer.lets_serve(identity.subject) is identity.is_fallback

    def is_denied(self, identity: AgentIdentity) -> bool:
        return self._denials.since(identity.cluster_uid, identity.node) is not None

    def _issuer(self, cluster_uid: str) -> Issuer | None:
        """The registration in force."""
        for issuer in self._issuers.of_cluster(cluster_uid):
            if self._is_live(cluster_uid, issuer.registered_by):
                return issuer
        return None

    def _check(self, token: bytes, hub_id: str) -> NodeClaims:
        cluster_uid = _cluster_of(token, hub_id)
        if self._clusters.name_of(cluster_uid) is None:
            raise CredentialRefused
        issuer = self._issuer(cluster_uid)
        if issuer is None:
            raise CredentialRefused(
                "the cluster's agent has not registered the cluster's token issuer yet, or was revoked"
            )
        try:
            decoded = jwt.decode(token, issuer.keys, algorithms=list(ALGORITHMS))
            claims, key = decoded.claims, issuer.keys.get_by_kid(decoded.header.get("kid"))
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as exc:
            # An unknown key id is here too: the cluster's keys may be new, and its agent tells within minutes.
            error = type(exc).__name__
            self._strangers.log(logging.INFO, "node token refused", error, cluster_uid=cluster_uid, error=error)
            raise CredentialRefused from None
        if claims.get("iss") != issuer.issuer or claims.get("aud") != [audience(hub_id, cluster_uid)]:
            raise CredentialRefused
        if not isinstance(claims.get("sub"), str) or claims["sub"] not in issuer.subjects:
            raise CredentialRefused("the token's ServiceAccount is not one that node agents of this cluster run with")
        expires_at = self._times(claims)
        subject = str(claims["sub"])
        pod, node = self._bound(claims, cluster_uid)
        rests_on = proof(issuer.issuer, key, subject)
        return NodeClaims(cluster_uid, node, pod, expires_at, subject, rests_on, is_fallback=issuer.lets_serve(subject))

    def _times(self, claims: dict[str, Any]) -> float:
        """When the token ends. Raises CredentialRefused."""
        exp, iat, nbf = claims.get("exp"), claims.get("iat"), claims.get("nbf", claims.get("iat"))
        if not all(type(moment) in (int, float) for moment in (exp, iat, nbf)):
            raise CredentialRefused
        try:
            until, since, not_before = float(exp), float(iat), float(nbf)  # type: ignore[arg-type] # looked at above
        except OverflowError:
            raise CredentialRefused from None
        if not all(0 <= moment < _TIME_MAX for moment in (until, since, not_before)):  # NaN is none of these either
            raise CredentialRefused
        now = self._clock()
        if now >= until:
            raise CredentialRefused(f"the token expired at {rfc3339(until)}")
        if now < not_before - SKEW_S or now < since - SKEW_S:
            raise CredentialRefused("the token is not valid yet: the clocks of cluster and hub differ")
        if not 0 <= until - since <= LIFETIME_MAX_S:
            raise CredentialRefused(
                f"the token lives {until - since:.0f} s, at most {LIFETIME_MAX_S:.0f}: set expirationSeconds to 600"
            )
        return until

    def _bound(self, claims: dict[str, Any], cluster_uid: str) -> tuple[str, str]:
        """Pod and node. Raises CredentialRefused."""
        try:
            bound = claims["kubernetes.io"]
            pod, node = bound["pod"]["uid"], (bound.get("node") or {}).get("name", "")
        except (KeyError, TypeError, AttributeError):
            raise CredentialRefused("the token is not bound to a pod") from None
        if not isinstance(pod, str) or not isinstance(node, str) or not pod:
            raise CredentialRefused("the token is not bound to a pod")
        node = node or self._pods.node_of(cluster_uid, pod, self._is_live)
        if not NODE_PATTERN.fullmatch(node):
            raise CredentialRefused(
                "the token names no node, as before Kubernetes 1.32, and the cluster's agent has not told on which node"
                " this pod runs"
            )
        return pod, node


def _cluster_of(token: bytes, hub_id: str) -> str:
    """The cluster's uid in the audience of a token, before anything is believed. Raises CredentialRefused."""
    parts = token.split(b".")
    if len(token) > TOKEN_BYTES_MAX or len(parts) != 3:
        raise CredentialRefused
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
        (named,) = payload["aud"]
        prefix = audience(hub_id, "")
        if not named.startswith(prefix):
            raise CredentialRefused("the token is for another hub: its audience is riata:<hub id>:<cluster uid>")
        return str(named.removeprefix(prefix))
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CredentialRefused from None


class NodeTokenScheme:
    """`service-account`: the value is the token."""

    def __init__(self, tokens: NodeTokens) -> None:
        self._tokens = tokens

    async def verify(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        identity = self._tokens.identity(auth.credential.value, challenge.hub_id)
        if auth.role != ROLE_NODE or auth.node not in {"", identity.node}:
            raise CredentialRefused
        return identity
