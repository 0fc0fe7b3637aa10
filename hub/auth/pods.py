"""On which node a pod runs, for clusters whose tokens do not say it (Kubernetes before 1.32), as their agents told.

A map of a cluster is kept in parts of a few hundred pods; the agent says how many there are, and the last one removes
those of a longer map before it. Each agent has a map of its own, which counts while that agent is not revoked.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from typing import Final

from hub.store.interface import Store
from hub.store.model import Event, Key, Resource, RevisionConflict
from proto.commands import RegisterPods
from proto.errors import Code, StreamReset

logger = logging.getLogger(__name__)

KIND: Final = "node-pods"


class PodIndex:
    """Pod uid → node, by cluster uid and agent."""

    kind: str = KIND

    def __init__(self) -> None:
        self._parts: dict[str, dict[tuple[str, str], dict[str, str]]] = {}

    def node_of(self, cluster_uid: str, pod: str, is_live: Callable[[str, str], bool]) -> str:
        """The node's name, as an agent says for which `is_live` (cluster uid, credential id); empty when the pod is
        unknown."""
        for (registrant, _), pods in self._parts.get(cluster_uid, {}).items():
            if pod in pods and is_live(cluster_uid, registrant):
                return pods[pod]
        return ""

    def registrants(self) -> set[tuple[str, str]]:
        """(cluster uid, credential id) of every map."""
        return {(uid, registrant) for uid, parts in self._parts.items() for registrant, _ in parts}

    def reset(self, resources: Iterable[Resource]) -> None:
        self._parts.clear()
        for resource in resources:
            self._load(resource)

    def apply(self, event: Event) -> None:
        at = event.resource.key
        parts = self._parts.get(at.cluster, {})
        parts.pop(_part(at), None)
        if not parts:
            self._parts.pop(at.cluster, None)
        if not event.is_deleted:
            self._load(event.resource)

    def _load(self, resource: Resource) -> None:
        pods = resource.spec.get("pods")
        if not isinstance(pods, dict):
            logger.error("pod map unreadable", extra={"cluster_uid": resource.key.cluster})
            return
        parts = self._parts.setdefault(resource.key.cluster, {})
        parts[_part(resource.key)] = {str(uid): str(node) for uid, node in pods.items()}


def _part(at: Key) -> tuple[str, str]:
    """Agent and number of a part."""
    registrant, _, number = at.name.rpartition(".")
    return registrant, number


class Pods:
    """Writes to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def register(self, cluster_uid: str, by: str, args: RegisterPods) -> bool:
        """Keep one part of the map of an agent, credential `by`; whether it is another one than before.

        Raises StreamReset, StoreError."""
        if args.part >= args.parts:
            raise StreamReset("a map has no such part", Code.PROTOCOL)
        pods: dict[str, str] = {}
        for line in args.pods:
            uid, _, node = line.partition(" ")
            if not uid or not node or " " in node:
                raise StreamReset("a pod is written UID NODE", Code.PROTOCOL)
            pods[uid] = node
        is_new = await self._keep(Key(KIND, cluster_uid, f"{by}.{args.part}"), pods)
        if args.part == args.parts - 1:
            await self.forget(cluster_uid, by, since=args.parts)
        return is_new

    async def forget(self, cluster_uid: str, by: str, *, since: int = 0) -> None:
        """Remove the map of an agent, from part `since` on. Raises StoreError. The last part goes first, so that where
        `since` is not there nothing behind it is, and nobody has to read megabytes of a map to find that out."""
        if since and await self._store.get(Key(KIND, cluster_uid, f"{by}.{since}")) is None:
            return
        found = [_part(item.key) for item in (await self._store.list(KIND, cluster=cluster_uid)).items]
        for number in sorted((int(part) for registrant, part in found if registrant == by), reverse=True):
            if number >= since:
                await self._store.delete(Key(KIND, cluster_uid, f"{by}.{number}"))

    async def _keep(self, at: Key, pods: dict[str, str]) -> bool:
        while True:
            found = await self._store.get(at)
            if found is not None and found.spec.get("pods") == pods:
                return False
            spec = {"pods": pods}
            draft = Resource(at, spec) if found is None else dataclasses.replace(found, spec=spec)
            try:
                await self._store.put(draft)
                return True
            except RevisionConflict:
                continue
