"""Removing what riata's manifest made in a cluster, and nothing else.

The agent has no right to delete anything. The hub asks in the name of whoever deleted the cluster, as if they had typed
it: RBAC of the cluster decides, and its audit log names them. What is removed has the owner label with this cluster's
uid, and is something that the manifest makes (hub.clusters.owned); each change holds only for the very object and
version that was seen so.

The rights that this works with are among what is removed, so they must not go first, and what is begun should not be
left half done. So every object is made a dependent of one, the binding that lets the agent impersonate; nothing happens
by that. Then this one is deleted, and the cluster's garbage collector removes the rest.

There is less than a second for it (hub.clusters.cleanups), so requests that do not need each other's answers are under
way together: six round trips, however much there is.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from hub.clusters import owned
from hub.clusters.manifest import OWNER_LABEL
from hub.clusters.owned import BINDING, KINDS, NODES, Release, Thing

NODE_LABEL: Final = "riata.io.node-restriction.kubernetes.io/fallback"
"""What the agent puts on nodes (design D5)."""
AT_ONCE: Final = 64
"""Requests under way: those of one round trip, of a cluster with custom kinds too."""
LIST_MAX: Final = 500
KINDS_MAX: Final = 1_000
"""Kinds of things in a namespace that are looked for. An API server in a stranger's hand could name kinds for ever."""
TRIES: Final = 5
"""A Deployment's status or a Lease changes while we look."""

WHOLE: Final = "application/json"
METADATA: Final = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{WHOLE}"
DISCOVERY: Final = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)

_IN_EVERY_NAMESPACE: Final = {("configmaps", "kube-root-ca.crt"), ("serviceaccounts", "default")}
_OF_NO_WEIGHT: Final = {"events"}

Ask = Callable[[str, str, str, object], Awaitable[tuple[int, Any]]]
"""Method, path, Accept and body (None: none) to status and document (None: no JSON)."""


class NotRemoved(Exception):
    """Why what is there stays. Nothing was deleted unless `Removal.has_begun`."""


class Removal:
    """One run. `run` returns what it removed."""

    def __init__(self, ask: Ask, cluster_uid: str) -> None:
        self._ask_freely = ask
        self._uid = cluster_uid
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.has_begun = False
        """Something may have been deleted."""

    async def run(self) -> tuple[list[str], list[str]]:
        """What goes, and what has our label and stays, with why. Raises NotRemoved.

        Cancelling leaves everything as it is; once it has begun, everything on its way or for somebody to finish.
        """
        labelled, discovered = await self._together(self._labelled(), self._discovered())
        if not labelled:
            return [], []
        found = owned.anchors(labelled)
        if not found:
            raise NotRemoved(f"its ClusterRoleBinding …{owned.ANCHOR} is gone, by which the others are removed")
        if len(found) > 1:
            raise NotRemoved(f"of {' and '.join(each.name for each in found)} it is not clear which one is riata's")
        (anchor,) = found
        release = Release.of(anchor)
        things = [thing for thing in labelled if release.makes(thing)]
        labelling = next((t for t in things if t.kind == BINDING and t.name == release.name + NODES), None)
        strangers, nodes = await self._together(
            self._strangers(things, discovered), self._chosen() if labelling is not None else _nothing()
        )
        going = [thing for thing in things if thing not in strangers]
        removed = await self._remove(going, anchor, labelling, nodes)
        kept = [f"{thing.name} ({stranger})" for thing, stranger in strangers.items()]
        return removed, [*kept, *(f"{each} (riata makes none of this name)" for each in labelled if each not in things)]

    async def _remove(
        self, going: Sequence[Thing], anchor: Thing, labelling: Thing | None, nodes: Collection[str]
    ) -> list[str]:
        """`nodes`: those that have the agent's label already. It may choose others until its right to is gone."""
        others = [thing for thing in going if thing is not anchor]
        tied = await self._each(lambda thing: self._tie(thing, anchor), others)
        if labelling is not None:
            await self._delete(labelling, {"uid": labelling.uid})  # or the agent would put the labels back
            _, now = await self._together(self._each(self._unlabel, nodes), self._chosen())
            await self._each(self._unlabel, [name for name in now if name not in nodes])
        await self._delete(anchor, {"uid": anchor.uid, "resourceVersion": anchor.version})
        return [*(str(thing) for thing, is_tied in zip(others, tied, strict=True) if is_tied), str(anchor)]

    async def _labelled(self) -> list[Thing]:
        """Everything with our label."""
        found = await self._each(lambda kind: self._of_kind(*kind), list(KINDS))
        return [thing for things in found for thing in things]

    async def _of_kind(self, api_version: str, kind: str) -> list[Thing]:
        path, _ = KINDS[api_version, kind]
        query = urlencode({"labelSelector": f"{OWNER_LABEL}={self._uid}", "limit": LIST_MAX})
        accept = WHOLE if kind == BINDING else METADATA
        items = await self._listed(f"{path}?{query}", f"list {path.rpartition('/')[2]}", accept, missing_ok=True)
        return [thing for item in items if (thing := owned.thing(api_version, kind, item, self._uid)) is not None]

    async def _tie(self, thing: Thing, anchor: Thing) -> bool:
        """Make it go with the anchor; False when it is gone or not ours any more. Raises NotRemoved."""
        for _ in range(TRIES):
            if thing.owners == (anchor.uid,):
                return True
            if thing.owners:
                raise NotRemoved(f"{thing} belongs to an object of somebody else's")
            meta = {"uid": thing.uid, "resourceVersion": thing.version, "ownerReferences": [anchor.reference()]}
            status, _ = await self._ask("PATCH", thing.path, WHOLE, {"metadata": meta})
            if status == 404:
                return False
            if status != 409:
                self._need(status, f"change {thing}")
                return True
            status, item = await self._ask("GET", thing.path, WHOLE, None)
            if status == 404:
                return False
            self._need(status, f"read {thing}")
            again = owned.thing(thing.api_version, thing.kind, item or {}, self._uid)
            if again is None or again.uid != thing.uid:
                return False
            thing = again
        raise NotRemoved(f"{thing} changes all the time")

    async def _delete(self, thing: Thing, preconditions: Mapping[str, str]) -> None:
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": dict(preconditions),
        }
        self.has_begun = True
        status, _ = await self._ask("DELETE", thing.path, WHOLE, body)
        if status != 404:
            self._need(status, f"delete {thing}")

    async def _chosen(self) -> list[str]:
        """The nodes that the agent has chosen for its fallback."""
        query = urlencode({"labelSelector": NODE_LABEL, "limit": LIST_MAX})
        return [str(each["metadata"]["name"]) for each in await self._listed(f"/api/v1/nodes?{query}", "list nodes")]

    async def _unlabel(self, node: str) -> None:
        path = f"/api/v1/nodes/{quote(node, safe='')}"
        status, _ = await self._ask("PATCH", path, WHOLE, {"metadata": {"labels": {NODE_LABEL: None}}})
        if status != 404:
            self._need(status, f"take the label off node {node}")

    async def _discovered(self) -> list[tuple[int, Any]]:
        """What the API server says that there is: its own kinds, then the groups."""
        return await self._each(lambda path: self._ask("GET", path, DISCOVERY, None), ["/api", "/apis"])

    async def _strangers(self, things: Iterable[Thing], discovered: Sequence[tuple[int, Any]]) -> dict[Thing, str]:
        """Namespaces of ours that hold something that is not, and what."""
        uids = {thing.uid for thing in things}
        spaces = [thing for thing in things if thing.kind == "Namespace"]
        found = await self._each(lambda space: self._stranger(space, uids, discovered), spaces)
        return {space: stranger for space, stranger in zip(spaces, found, strict=True) if stranger}

    async def _stranger(self, namespace: Thing, uids: Collection[str], discovered: Sequence[tuple[int, Any]]) -> str:
        """Something in a namespace of ours that is not ours; empty when there is nothing. Owned objects are their
        owner's: pods are ours because the Deployment is. `uids`: what is ours."""
        groups: list[Mapping[str, Any]] = []
        for status, found in discovered:
            self._need(status, "ask which resources there are")
            if (found or {}).get("kind") != "APIGroupDiscoveryList":
                return "this API server is too old to tell what is in it"
            groups += found["items"]
        paths = list(itertools.islice(_namespaced(groups, namespace.name), KINDS_MAX + 1))
        if len(paths) > KINDS_MAX:
            raise NotRemoved(f"the API server names more than {KINDS_MAX} kinds")
        held = await self._each(lambda path: self._listed(path, f"list {path}"), paths)
        items = [
            (path.rpartition("/")[2].partition("?")[0], item)
            for path, each in zip(paths, held, strict=True)
            for item in each
        ]
        return _first_stranger(items, uids)

    async def _listed(
        self, path: str, what: str, accept: str = METADATA, *, missing_ok: bool = False
    ) -> list[Mapping[str, Any]]:
        status, found = await self._ask("GET", path, accept, None)
        if status == 404 and missing_ok:  # a kind that this API server does not have
            return []
        self._need(status, what)
        if not isinstance(found, dict) or (found.get("metadata") or {}).get("continue"):
            raise NotRemoved(f"there is too much to {what}")
        items: list[Mapping[str, Any]] = [item for item in found.get("items") or () if isinstance(item, dict)]
        if len(items) > LIST_MAX:
            raise NotRemoved(f"the API server answered with more than was asked for to: {what}")
        return items

    async def _ask(self, method: str, path: str, accept: str, body: object) -> tuple[int, Any]:
        async with self._slots:
            return await self._ask_freely(method, path, accept, body)

    async def _each(self, work: Callable[[Any], Coroutine[Any, Any, Any]], items: Iterable[Any]) -> list[Any]:
        return await self._together(*[work(item) for item in items])

    async def _together(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        """The first failure ends the others. Order is kept."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each, name="clean-up") for each in work]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    def _need(self, status: int, what: str) -> None:
        if status in (401, 403):
            raise NotRemoved(f"the cluster does not let the hub's administrators {what} (HTTP {status})")
        if not 200 <= status < 300:
            raise NotRemoved(f"the API server answered {status} to: {what}")


async def _nothing() -> list[str]:
    return []


def _namespaced(groups: Iterable[Mapping[str, Any]], namespace: str) -> Iterable[str]:
    """Paths of all lists of things in a namespace that can be kept there."""
    for group in groups:
        name = (group.get("metadata") or {}).get("name") or ""
        for version in (group.get("versions") or ())[:1]:
            root = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
            for resource in version.get("resources") or ():
                verbs = set(resource.get("verbs") or ())
                if resource.get("scope") != "Namespaced" or not {"list", "create", "delete"} <= verbs:
                    continue
                if resource["resource"] not in _OF_NO_WEIGHT:
                    yield f"{root}/namespaces/{quote(namespace, safe='')}/{resource['resource']}?limit={LIST_MAX}"


def _first_stranger(items: Iterable[tuple[str, Mapping[str, Any]]], uids: Collection[str]) -> str:
    """The first of `items` (plural and object) that is neither one of `uids`, nor owned by one, nor everywhere."""
    left = [(plural, item.get("metadata") or {}) for plural, item in items]
    ours, grown = set(uids), -1
    while grown != len(ours):
        grown = len(ours)
        ours |= {
            str(meta.get("uid"))
            for _, meta in left
            if {str(owner.get("uid")) for owner in meta.get("ownerReferences") or ()} & ours
        }
    for plural, meta in left:
        if str(meta.get("uid")) not in ours and (plural, meta.get("name")) not in _IN_EVERY_NAMESPACE:
            return f"{plural} {meta.get('name')} is not riata's"
    return ""
