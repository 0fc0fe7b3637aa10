"""Cluster records (design P9): the name is for people and never changes, the uid binds grants and credentials.

Deleting a cluster removes the one record that makes its grants and agent credentials mean something; they are dead in
that instant, and are then swept out of the store. A new cluster of the same name has another uid and inherits nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from hub.auth import agentkeys, agents, grants, issuers, jointokens, nodes, pods
from hub.clock import Clock
from hub.clusters import nodetable
from hub.store.interface import Store
from hub.store.model import Document, Event, Key, Resource, RevisionConflict

logger = logging.getLogger(__name__)

KIND: Final = "cluster"
BOUND: Final = (
    agents.KIND, jointokens.KIND, agentkeys.KIND, issuers.KIND, nodes.DENIAL_KIND, pods.KIND, nodetable.KIND,
    nodetable.PART_KIND,
)  # fmt: skip
"""Kinds whose records live under their cluster's uid and mean nothing without it."""
NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster. `created_at` is in seconds since the epoch."""

    name: str
    uid: str
    labels: Mapping[str, str]
    created_at: float
    created_by: str

    def spec(self) -> Document:
        return {"labels": dict(self.labels), "createdAt": self.created_at, "createdBy": self.created_by}

    @staticmethod
    def of(resource: Resource) -> Cluster:
        """Raises KeyError, TypeError or ValueError for a record that this version cannot read."""
        spec = resource.spec
        labels = dict(spec["labels"])
        return Cluster(resource.key.name, resource.uid, labels, float(spec["createdAt"]), spec["createdBy"])


class ClusterIndex:
    """Every cluster by name and by uid. `on_gone` hears of deleted ones, to cut everything that runs over them."""

    kind: str = KIND

    def __init__(self, on_gone: Callable[[Cluster], None] = lambda cluster: None) -> None:
        self._by_name: dict[str, Cluster] = {}
        self._by_uid: dict[str, Cluster] = {}
        self.on_gone = on_gone

    def get(self, name: str) -> Cluster | None:
        return self._by_name.get(name)

    def by_uid(self, uid: str) -> Cluster | None:
        return self._by_uid.get(uid)

    def uid_of(self, name: str) -> str | None:
        cluster = self._by_name.get(name)
        return None if cluster is None else cluster.uid

    def name_of(self, uid: str) -> str | None:
        cluster = self._by_uid.get(uid)
        return None if cluster is None else cluster.name

    def names_of(self, uids: frozenset[str] | None) -> list[str] | None:
        """Names of those that still exist; None, which is every cluster, stays None."""
        if uids is None:
            return None
        return sorted(name for uid in uids if (name := self.name_of(uid)) is not None)

    def __iter__(self) -> Iterator[Cluster]:
        return iter(sorted(self._by_name.values(), key=lambda cluster: cluster.name))

    def __len__(self) -> int:
        return len(self._by_name)

    def reset(self, resources: Iterable[Resource]) -> None:
        before = dict(self._by_uid)
        self._by_name.clear()
        self._by_uid.clear()
        for resource in resources:
            self._load(resource)
        for uid, cluster in before.items():
            if uid not in self._by_uid:
                self.on_gone(cluster)

    def apply(self, event: Event) -> None:
        before = self._by_name.pop(event.resource.key.name, None)
        if before is not None:
            self._by_uid.pop(before.uid, None)
        if not event.is_deleted:
            self._load(event.resource)
        if before is not None and before.uid not in self._by_uid:
            self.on_gone(before)

    def _load(self, resource: Resource) -> None:
        try:
            cluster = Cluster.of(resource)
        except (KeyError, TypeError, ValueError):
            logger.exception("cluster record unreadable", extra={"cluster": resource.key.name})
            return
        self._by_name[cluster.name] = cluster
        self._by_uid[cluster.uid] = cluster


class Clusters:
    """Writes to the store; visible to the index once `Follower.reached(revision)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, *, name: str, labels: Mapping[str, str], created_by: str) -> tuple[Cluster, int, bool]:
        """The cluster, the revision to wait for, and whether it is new: an existing one of that name is returned."""
        draft = Cluster(name, "", labels, self._clock(), created_by)
        key = Key(KIND, "", name)
        while True:
            try:
                stored = await self._store.put(Resource(key, draft.spec()))
            except RevisionConflict:
                found = await self._store.get(key)
                if found is not None:
                    return Cluster.of(found), found.revision, False
            else:
                return Cluster.of(stored), stored.revision, True

    async def delete(self, name: str, *, uid: str = "", on_deleted: Callable[[], None] = lambda: None) -> int | None:
        """Delete the cluster, then what was bound to its uid; `on_deleted` is called in between. The last revision;
        None if there was no such cluster, or the name is another one's by now than that of `uid`.
        """
        found = await self._store.get(Key(KIND, "", name))
        if found is None or (uid and found.uid != uid):
            return None
        try:
            revision = await self._store.delete(found.key, revision=found.revision)
        except RevisionConflict:  # deleted meanwhile: such a record never changes
            return None
        if revision is None:
            return None
        on_deleted()
        return max(revision, await self.sweep())

    async def sweep(self) -> int:
        """Remove grants and agent credentials of clusters that are no more, also what a crash or a race left behind.

        Returns the revision of the last removal, 0 if there was none.
        """
        bound = [(kind, await self._store.clusters_of(kind)) for kind in BOUND]  # a fleet's node tables are not read
        given = (await self._store.list(grants.KIND)).items
        live = {item.uid for item in (await self._store.list(KIND)).items} | {grants.EVERY_CLUSTER}
        orphans = [item for item in given if item.spec.get("clusterUid") not in live]
        for kind, uids in bound:
            for uid in uids - live:
                orphans += (await self._store.list(kind, cluster=uid)).items
        last = 0
        for item in orphans:
            # A grant of that name may have been made anew meanwhile for a living cluster. What lives under a uid never.
            revision = item.revision if item.key.kind == grants.KIND else None
            with contextlib.suppress(RevisionConflict):
                last = await self._store.delete(item.key, revision=revision) or last
        return last
