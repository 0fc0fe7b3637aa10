"""Token issuers of clusters: whose ServiceAccount tokens prove a node agent, as the cluster's own agent registered it.

A cluster agent can register for its own cluster only; what it says there can let in node agents of that cluster and
nobody else's (design D6, facts/security.md F2: an issuer's address is a name here, it is never dialled).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
from collections.abc import Callable, Iterable
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
RSA_BITS_MOST: Final = 8192
_CURVES: Final = frozenset({"P-256", "P-384", "P-521"})
_NAME: Final = "self"


@dataclasses.dataclass(frozen=True, slots=True)
class Issuer:
    """What proves node agents of one cluster."""

    cluster_uid: str
    issuer: str
    subjects: frozenset[str]
    keys: KeySet
    spec: Document
    fallback: str = ""
    """Of the subjects, the one whose node agents may serve requests; empty: none."""

    def lets_serve(self, subject: str) -> bool:
        """Whether node agents of this ServiceAccount are fallback (design D5)."""
        return bool(self.fallback) and subject == self.fallback and subject in self.subjects

    @staticmethod
    def of(resource: Resource) -> Issuer:
        """Raises KeyError, TypeError, ValueError for a record that cannot be read."""
        spec = resource.spec
        fallback = spec.get("fallback", "")  # of records that cluster agents before it made: nobody
        if not isinstance(fallback, str):
            raise TypeError("the fallback's subject is no text")
        subjects = frozenset(spec["subjects"])
        return Issuer(resource.key.cluster, spec["issuer"], subjects, key_set(spec["jwks"]), spec, fallback)


def key_set(jwks: str) -> KeySet:
    """The public keys of a JWKS. Raises ValueError for anything but a few strong RSA or EC public keys."""
    try:
        found = json.loads(jwks)["keys"]
        if not isinstance(found, list) or not 1 <= len(found) <= KEYS_MAX:
            raise ValueError(f"a JWKS has 1 to {KEYS_MAX} keys")
        keys = KeySet([_key(item) for item in found])
    except (JoseError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError("this is no JWKS") from exc
    return keys


def _key(item: dict[str, Any]) -> RSAKey | ECKey:
    if "d" in item or "k" in item:
        raise ValueError("a JWKS that is registered holds no secrets")
    if item.get("kty") == "RSA":
        modulus, exponent = _integer(item["n"]), _integer(item["e"])
        if not RSA_BITS_LEAST <= modulus.bit_length() <= RSA_BITS_MOST or not modulus & 1:
            raise ValueError(f"an RSA key has {RSA_BITS_LEAST} to {RSA_BITS_MOST} bits")
        if not 3 <= exponent < 1 << 32:  # a large one makes every check of a signature cost milliseconds
            raise ValueError("the exponent of an RSA key is at most 32 bits long")
        return RSAKey.import_key(item)
    if item.get("kty") == "EC" and item.get("crv") in _CURVES:
        return ECKey.import_key(item)
    raise ValueError("keys are RSA or EC")


def _integer(text: Any) -> int:
    """A number in base64url (RFC 7518 §2). Raises ValueError, TypeError."""
    raw = str(text).rstrip("=")
    return int.from_bytes(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)), "big")


class IssuerIndex:
    """The issuer of each cluster by its uid. `on_changed` hears the uid of a cluster whose issuer is another one, or
    none any more: sessions may have begun with what no longer holds."""

    kind: str = KIND

    def __init__(self) -> None:
        self._by_uid: dict[str, Issuer] = {}
        self.on_changed: Callable[[str], object] = lambda cluster_uid: None

    def get(self, cluster_uid: str) -> Issuer | None:
        return self._by_uid.get(cluster_uid)

    def reset(self, resources: Iterable[Resource]) -> None:
        before = tuple(self._by_uid)
        self._by_uid.clear()
        for resource in resources:
            self._load(resource)
        for uid in {*before, *self._by_uid}:
            self.on_changed(uid)

    def apply(self, event: Event) -> None:
        uid = event.resource.key.cluster
        self._by_uid.pop(uid, None)
        if not event.is_deleted:
            self._load(event.resource)
        self.on_changed(uid)

    def _load(self, resource: Resource) -> None:
        try:
            self._by_uid[resource.key.cluster] = Issuer.of(resource)
        except (KeyError, TypeError, ValueError):
            logger.exception("token issuer unreadable", extra={"cluster_uid": resource.key.cluster})


class Issuers:
    """Writes to the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def register(self, cluster_uid: str, args: RegisterIssuer) -> int:
        """Keep what a cluster's agent says; the revision of the write, 0 when nothing changed. Raises StreamReset."""
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
        at = Key(KIND, cluster_uid, _NAME)
        while True:
            found = await self._store.get(at)
            if found is not None and {name: found.spec.get(name) for name in wanted} == wanted:
                return 0
            spec = {**wanted, "registeredAt": self._clock()}
            draft = Resource(at, spec) if found is None else dataclasses.replace(found, spec=spec)
            try:
                return (await self._store.put(draft)).revision
            except RevisionConflict:
                continue
