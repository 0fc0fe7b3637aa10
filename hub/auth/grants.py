"""Grants: which principal may use which cluster, and who administers the hub (design P9).

A grant names one user or one group, and either one cluster (by uid: a new cluster of an old name inherits nothing) or
every cluster. Roles: `use`, `admin` (adds the downstream group of cluster administrators), `hub-admin` (the management
API, and `admin` on every cluster). `impersonate` lists whom the holder may act as there; no role implies it.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from hub.auth.principal import Principal
from hub.store.interface import Store
from hub.store.model import Document, Event, Key, Resource

logger = logging.getLogger(__name__)

KIND: Final = "grant"
EVERY_CLUSTER: Final = "*"
ANYBODY: Final = "*"


class Role(enum.StrEnum):
    USE = "use"
    ADMIN = "admin"
    HUB_ADMIN = "hub-admin"


class ClusterNames(Protocol):
    """The two questions that authorisation asks of the cluster records (hub.clusters.records.ClusterIndex)."""

    def uid_of(self, name: str) -> str | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """What a principal may do on one cluster. `users` and `groups`: whom it may impersonate, `*` is anybody."""

    cluster_uid: str
    cluster_name: str
    is_admin: bool
    users: tuple[str, ...]
    groups: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """One grant. Exactly one of `user` and `group` is set; `cluster_uid` is a uid or EVERY_CLUSTER."""

    name: str
    user: str
    group: str
    cluster_uid: str
    role: Role
    impersonate_users: tuple[str, ...] = ()
    impersonate_groups: tuple[str, ...] = ()
    created_at: float = 0.0
    created_by: str = ""

    def concerns(self, user: str, groups: tuple[str, ...]) -> bool:
        return self.user == user if self.user else self.group in groups

    def covers(self, cluster_uid: str) -> bool:
        return self.cluster_uid in (EVERY_CLUSTER, cluster_uid)

    def spec(self) -> Document:
        return {
            "user": self.user,
            "group": self.group,
            "clusterUid": self.cluster_uid,
            "role": str(self.role),
            "impersonateUsers": list(self.impersonate_users),
            "impersonateGroups": list(self.impersonate_groups),
            "createdAt": self.created_at,
            "createdBy": self.created_by,
        }

    @staticmethod
    def of(resource: Resource) -> Grant:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec = resource.spec
        if bool(spec["user"]) == bool(spec["group"]):
            raise ValueError("a grant is for exactly one user or group")
        return Grant(
            name=resource.key.name,
            user=spec["user"],
            group=spec["group"],
            cluster_uid=spec["clusterUid"],
            role=Role(spec["role"]),
            impersonate_users=tuple(spec["impersonateUsers"]),
            impersonate_groups=tuple(spec["impersonateGroups"]),
            created_at=float(spec["createdAt"]),
            created_by=spec["createdBy"],
        )


_Held = dict[str, dict[str, Grant]]
"""The grants of one user or group by cluster uid and name."""


class GrantIndex:
    """Every grant, found by user and by group. `on_change` hears of a grant that was removed or replaced."""

    kind: str = KIND

    def __init__(self, on_change: Callable[[Grant], None] = lambda grant: None) -> None:
        self._by_name: dict[str, Grant] = {}
        self._by_user: dict[str, _Held] = {}
        self._by_group: dict[str, _Held] = {}
        self.on_change = on_change
        self.version = 0
        """Grows with every change, for those who keep what they derived from the grants."""

    def get(self, name: str) -> Grant | None:
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[Grant]:
        return iter(tuple(self._by_name.values()))

    def of(self, user: str, groups: tuple[str, ...]) -> Iterator[Grant]:
        """The grants that concern a principal."""
        for held in self._held(user, groups):
            for grants in held.values():
                yield from grants.values()

    def covering(self, cluster_uid: str, user: str, groups: tuple[str, ...]) -> Iterator[Grant]:
        """Those of them that concern one cluster, found without the others: there may be thousands."""
        for held in self._held(user, groups):
            for uid in (EVERY_CLUSTER, cluster_uid):
                yield from held.get(uid, {}).values()

    def _held(self, user: str, groups: tuple[str, ...]) -> Iterator[_Held]:
        yield self._by_user.get(user, {})
        for group in groups:
            yield self._by_group.get(group, {})

    def is_hub_admin(self, user: str, groups: tuple[str, ...]) -> bool:
        return any(grant.role is Role.HUB_ADMIN for grant in self.of(user, groups))

    def reset(self, resources: Iterable[Resource]) -> None:
        self.version += 1
        before = dict(self._by_name)
        self._by_name.clear()
        self._by_user.clear()
        self._by_group.clear()
        for resource in resources:
            self._load(resource)
        for name, grant in before.items():
            if self._by_name.get(name) != grant:
                self.on_change(grant)

    def apply(self, event: Event) -> None:
        self.version += 1
        before = self._by_name.get(event.resource.key.name)
        self._remove(event.resource.key.name)
        if not event.is_deleted:
            self._load(event.resource)
        if before is not None and self._by_name.get(before.name) != before:
            self.on_change(before)

    def _load(self, resource: Resource) -> None:
        try:
            grant = Grant.of(resource)
        except (KeyError, TypeError, ValueError):
            logger.exception("grant record unreadable", extra={"grant": resource.key.name})
            return
        self._by_name[grant.name] = grant
        held = self._side(grant).setdefault(grant.user or grant.group, {})
        held.setdefault(grant.cluster_uid, {})[grant.name] = grant

    def _remove(self, name: str) -> None:
        grant = self._by_name.pop(name, None)
        if grant is None:
            return
        side, subject = self._side(grant), grant.user or grant.group
        held = side[subject]
        held[grant.cluster_uid].pop(name)
        if not held[grant.cluster_uid]:
            del held[grant.cluster_uid]
        if not held:
            del side[subject]

    def _side(self, grant: Grant) -> dict[str, _Held]:
        return self._by_user if grant.user else self._by_group


_KEPT_MAX: Final = 65_536
"""Decisions kept: token and cluster, as long as no grant changes and the principal stays the same object."""


class Authorizer:
    """Decides about clusters. Synchronous, from memory; deny is the answer to everything unknown."""

    def __init__(self, grants: GrantIndex, clusters: ClusterNames) -> None:
        self._grants = grants
        self._clusters = clusters
        self._known: dict[tuple[str, str], tuple[Principal, Access]] = {}
        self._version = -1

    def access(self, principal: Principal, cluster_name: str) -> Access | None:
        """What the principal may do there. None alike for no such cluster and no grant: existence is not told."""
        uid = self._clusters.uid_of(cluster_name)
        if uid is None or (principal.cluster_uids is not None and uid not in principal.cluster_uids):
            return None
        if self._version != self._grants.version or len(self._known) >= _KEPT_MAX:
            self._known.clear()
            self._version = self._grants.version
        key = principal.token_id, uid
        known = self._known.get(key)
        if known is not None and known[0] is principal:
            return known[1]
        access = self._decide(principal, uid, cluster_name)
        if access is not None:
            self._known[key] = principal, access
        return access

    def _decide(self, principal: Principal, uid: str, cluster_name: str) -> Access | None:
        is_allowed = is_admin = False
        users: dict[str, None] = {}
        groups: dict[str, None] = {}
        for grant in self._grants.covering(uid, principal.user, principal.groups):
            is_allowed = True
            is_admin = is_admin or grant.role is not Role.USE
            users.update(dict.fromkeys(grant.impersonate_users))
            groups.update(dict.fromkeys(grant.impersonate_groups))
        if not is_allowed:
            return None
        return Access(uid, cluster_name, is_admin, tuple(users), tuple(groups))


class Grants:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, grant: Grant) -> int:
        """The revision of the write. Raises RevisionConflict if the name is taken."""
        stored = await self._store.put(Resource(Key(KIND, "", grant.name), grant.spec()))
        return stored.revision

    async def stored(self, name: str) -> tuple[Grant, int] | None:
        """The grant as the store has it, which the index may not have heard of yet, and its revision. Raises KeyError,
        TypeError or ValueError for a record that this version cannot read."""
        found = await self._store.get(Key(KIND, "", name))
        return None if found is None else (Grant.of(found), found.revision)

    async def delete(self, name: str) -> int | None:
        """The revision of the deletion, None if there was no such grant."""
        return await self._store.delete(Key(KIND, "", name))
