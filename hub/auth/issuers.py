"""Token issuers of clusters: whose ServiceAccount tokens prove a node agent, as the cluster's own agent registered it.

A cluster agent can register for its own cluster only; what it says there can let in node agents of that cluster and
nobody else's (design D6, facts/security.md F2: an issuer's address is a name here, it is never dialled).

Each agent's registration is a record of its own, named as the agent: the newest one of an agent that is not revoked is
in force. So what a stolen key registered ends with that key, and what another agent had said is true again at once.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from hub.clock import Clock
from hub.store.interface import Store
from hub.store.model import Document, Event, Key, Resource, RevisionConflict
from proto.commands import RegisterIssuer
from proto.errors import Code, StreamReset

logger = logging.getLogger(__name__)

KIND: Final = "token-issuer"
KEYS_MAX: Final = 16
RSA_BITS_LEAST: Final = 2048
RSA_BITS_MOST: Final = 4096
RSA_EXPONENT_MOST: Final = 65_537
"""Tokens of node agents are checked on the event loop: 8192 bits with an exponent of 32 take it a millisecond."""
_FIX: Final = (
    "have the API server sign with a key of RSA-2048 to RSA-4096 or of an elliptic curve"
    " (--service-account-signing-key-file), and show no other (--service-account-key-file)"
)
_CURVES: Final = frozenset({"P-256", "P-384", "P-521"})


@dataclasses.dataclass(frozen=True, slots=True)
class Issuer:
    """What proves node agents of one cluster."""

    cluster_uid: str
    registered_by: str
    """Id of the agent's credential."""
    revision: int
    """Of the registration; of two the greater is the newer, whatever clocks said."""
    issuer: str
    subjects: frozenset[str]
    keys: KeySet
    spec: Document
    proofs: frozenset[str]
    """What a session of a node agent can rest on: each signing key with each subject."""
    fallback: str = ""
    """Of the subjects, the one whose node agents may serve requests; empty: none."""

    def lets_serve(self, subject: str) -> bool:
        """Whether node agents of this ServiceAccount are fallback (design D5)."""
        return bool(self.fallback) and subject == self.fallback and subject in self.subjects

    @staticmethod
    def of(resource: Resource) -> Issuer:
        """Raises KeyError, TypeError, ValueError for a record that cannot be read."""
        spec, keys = resource.spec, key_set(resource.spec["jwks"])
        issuer, subjects = spec["issuer"], frozenset(spec["subjects"])
        fallback = spec.get("fallback", "")  # of records that cluster agents before it made: nobody
        if not isinstance(fallback, str):
            raise TypeError("the fallback's subject is no text")
        return Issuer(
            cluster_uid=resource.key.cluster,
            registered_by=resource.key.name,
            revision=resource.revision,
            issuer=issuer,
            subjects=subjects,
            keys=keys,
            spec=spec,
            proofs=frozenset(proof(issuer, key, subject) for key in keys.keys for subject in subjects),
            fallback=fallback,
        )


def proof(issuer: str, key: Any, subject: str) -> str:
    """What proves a node agent: who signed its token, with which key, for which ServiceAccount."""
    return "\n".join((issuer, key.thumbprint(), subject))


def key_set(jwks: str) -> KeySet:
    """The public keys of a JWKS. Raises ValueError for anything but a few strong RSA or EC public keys."""
    try:
        found = json.loads(jwks)["keys"]
        if not isinstance(found, list) or not 1 <= len(found) <= KEYS_MAX:
            raise ValueError(f"a JWKS has 1 to {KEYS_MAX} keys")
        keys = KeySet([_key(item) for item in found])
        if len({key.kid for key in keys.keys}) < len(found):
            raise ValueError("the keys of a JWKS have names (kid) of their own")
    except (JoseError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError("this is no JWKS") from exc
    return keys


def _key(item: dict[str, Any]) -> RSAKey | ECKey:
    if "d" in item or "k" in item:
        raise ValueError("a JWKS that is registered holds no secrets")
    if item.get("kty") == "RSA":
        fault = _rsa_fault(_integer(item["n"]), _integer(item["e"]))
        if fault:
            raise ValueError(f"key {str(item.get('kid'))[:64]!r}: {fault}; {_FIX}")
        return RSAKey.import_key(item)
    if item.get("kty") == "EC" and item.get("crv") in _CURVES:
        return ECKey.import_key(item)
    raise ValueError("keys are RSA or EC")


def _rsa_fault(modulus: int, exponent: int) -> str:
    """What is wrong with an RSA key; empty for one that is neither weak nor dear to check."""
    if not RSA_BITS_LEAST <= modulus.bit_length() <= RSA_BITS_MOST or not modulus & 1:
        return f"an RSA key has {RSA_BITS_LEAST} to {RSA_BITS_MOST} bits, this one {modulus.bit_length()}"
    if not 3 <= exponent <= RSA_EXPONENT_MOST:
        return f"the exponent of an RSA key is 3 to {RSA_EXPONENT_MOST}"
    return ""


def _integer(text: Any) -> int:
    """A number in base64url (RFC 7518 §2). Raises ValueError, TypeError."""
    raw = str(text).rstrip("=")
    return int.from_bytes(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)), "big")


class IssuerIndex:
    """The registrations of each cluster by its uid. `on_change` hears the uid of a
    cluster whose registrations changed: sessions may have begun with what no longer holds."""

    kind: str = KIND

    def __init__(self, on_changed: Callable[[str], object] = lambda cluster_uid: None) -> None:
        self._by_uid: dict[str, dict[str, Issuer]] = {}
        self._newest: dict[str, tuple[Issuer, ...]] = {}
        """Of each cluster, the newest first: asked for every session every few seconds."""
        self.on_changed = on_changed

    def of_cluster(self, cluster_uid: str) -> tuple[Issuer, ...]:
        """The newest first."""
        return self._newest.get(cluster_uid, ())

    def _sort(self, cluster_uid: str) -> None:
        found = self._by_uid.get(cluster_uid, {}).values()
        self._newest[cluster_uid] = tuple(sorted(found, key=lambda issuer: issuer.revision, reverse=True))
        if not found:
            del self._newest[cluster_uid]

    def __iter__(self) -> Iterator[Issuer]:
        return iter([issuer for issuers in self._by_uid.values() for issuer in issuers.values()])

    def reset(self, resources: Iterable[Resource]) -> None:
        before, self._by_uid = self._by_uid, {}
        for resource in resources:
            self._load(resource)
        for uid in {*before, *self._by_uid}:
            self._sort(uid)
            self.on_changed(uid)

    def apply(self, event: Event) -> None:
        at = event.resource.key
        mates = self._by_uid.get(at.cluster, {})
        mates.pop(at.name, None)
        if not mates:
            self._by_uid.pop(at.cluster, None)
        if not event.is_deleted:
            self._load(event.resource)
        self._sort(at.cluster)
        self.on_changed(at.cluster)

    def _load(self, resource: Resource) -> None:
        try:
            issuer = Issuer.of(resource)
        except (KeyError, TypeError, ValueError):
            logger.exception("token issuer unreadable", extra={"cluster_uid": resource.key.cluster})
        else:
            self._by_uid.setdefault(issuer.cluster_uid, {})[issuer.registered_by] = issuer


class Issuers:
    """Writes to the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def register(self, cluster_uid: str, by: str, args: RegisterIssuer) -> int:
        """Keep what a cluster's agent, credential `by`, says; the revision of the write, 0 where it is in force.

        Raises StreamReset, StoreError."""
        try:
            key_set(args.jwks)
        except ValueError as exc:
            raise StreamReset(str(exc), Code.PROTOCOL) from None
        if args.fallback and args.fallback not in args.subjects:
            raise StreamReset("the fallback's ServiceAccount is none of the subjects", Code.PROTOCOL)
        wanted = {
            "issuer": args.issuer,
            "jwks": args.jwks,
            "subjects": sorted(args.subjects),
            "fallback": args.fallback,
        }
        at = Key(KIND, cluster_uid, by)
        while True:
            said = {each.key.name: each for each in (await self._store.list(KIND, cluster=cluster_uid)).items}
            found = said.pop(by, None)
            if found is not None and _is_in_force(found, said.values(), wanted):
                return 0
            spec = {**wanted, "registeredAt": self._clock()}
            draft = Resource(at, spec) if found is None else dataclasses.replace(found, spec=spec)
            try:
                return (await self._store.put(draft)).revision
            except RevisionConflict:
                continue

    async def forget(self, cluster_uid: str, by: str) -> int | None:
        """Remove what an agent registered: it is no more."""
        return await self._store.delete(Key(KIND, cluster_uid, by))


def _is_in_force(own: Resource, others: Iterable[Resource], wanted: Document) -> bool:
    """Whether an agent has said `wanted`, and nobody anything else since.

    Others may have said the same since: agents that agree would else write in turn for ever. Whoever disagrees is not
    asked whether it is live: its word counts for nothing once this one is newer.
    """
    newer = [other for other in others if other.revision > own.revision]
    return all(_says(each, wanted) for each in (own, *newer))


def _says(resource: Resource, wanted: Document) -> bool:
    return {name: resource.spec.get(name) for name in wanted} == wanted
