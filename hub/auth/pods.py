"""On which node a pod runs, for clusters whose tokens do not say it (Kubernetes before 1.32), as their agents told.

A map of a cluster is kept in parts of a few hundred pods; the agent says how many there are, and the last one removes
those of a longer map before it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import Final

from hub.store.interface import Store
from hub.store.model import Event, Key, Resource, RevisionConflict
from proto.commands import RegisterPods
from proto.errors import Code, StreamReset

logger = logging.getLogger(__name__)

KIND: Final = "node-pods"


class PodIndex:
    """Pod uid → node, by cluster uid."""

    kind: str = KIND

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], dict[str, str]] = {}

    def node_of(self, cluster_uid: str, pod: str) -> str:
        """The node's name, empty when the pod is unknown."""
        for (uid, _), pods in self._parts.items():
            if uid == cluster_uid and pod in pods:
                return pods[pod]
        return ""

    def reset(self, resources: Iterable[Resource]) -> None:
        self._parts.clear()
        for resource in resources:
            self._load(resource)

    def apply(self, event: Event) -> None:
        self._parts.pop((event.resource.key.cluster, event.resource.key.name), None)
        if not event.is_deleted:
            self._load(event.resource)

    def _load(self, resource: Resource) -> None:
        pods = resource.spec.get("pods")
        if not isinstance(pods, dict):
            logger.error("pod map unreadable", extra={"cluster_uid": resource.key.cluster})
            return
        self._parts[resource.key.cluster, resource.key.name] = {str(uid): str(node) for uid, node in pods.items()}


class Pods:
    """Writes to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def register(self, cluster_uid: str, args: RegisterPods) -> None:
        """Keep one part of a cluster's map. Raises StreamReset, StoreError."""
        if args.part >= args.parts:
            raise StreamReset("a map has no such part", Code.PROTOCOL)
        pods: dict[str, str] = {}
        for line in args.pods:
            uid, _, node = line.partition(" ")
            if not uid or not node or " " in node:
                raise StreamReset("a pod is written UID NODE", Code.PROTOCOL)
            pods[uid] = node
        await self._keep(Key(KIND, cluster_uid, f"part-{args.part}"), pods)
        if args.part == args.parts - 1:
            for item in (await self._store.list(KIND, cluster=cluster_uid)).items:
                if int(item.key.name.removeprefix("part-")) >= args.parts:
                    await self._store.delete(item.key)

    async def _keep(self, at: Key, pods: dict[str, str]) -> None:
        while True:
            found = await self._store.get(at)
            if found is not None and found.spec.get("pods") == pods:
                return
            spec = {"pods": pods}
            draft = Resource(at, spec) if found is None else dataclasses.replace(found, spec=spec)
            try:
                await self._store.put(draft)
                return
            except RevisionConflict:
                continue
