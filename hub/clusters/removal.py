"""Removing what riata's manifest made in a cluster, and nothing else.

The agent has no right to delete anything. The hub asks in the name of whoever deleted the cluster, as if they had typed
it: RBAC of the cluster decides, and its audit log names them. What is removed has the owner label with this cluster's
uid; each change holds only for the very object and version that had it.

The rights that this works with are among what is removed, so they must not go first, and what is begun should not be
left half done. So every object is made a dependent of one, the binding that lets the agent impersonate; nothing happens
by that. Then this one is deleted, and the cluster's garbage collector removes the rest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from hub.clusters.manifest import OWNER_LABEL

ANCHOR: Final = "riata-agent-impersonate"
"""The ClusterRoleBinding that the others are made to depend on."""
NODES: Final = "riata-agent-nodes"
"""The ClusterRoleBinding by which the agent labels nodes."""
NODE_LABEL: Final = "riata.io.node-restriction.kubernetes.io/fallback"
"""What it puts on them (design D5)."""
AT_ONCE: Final = 8
"""Requests under way: a cluster far away should not need a minute."""
LIST_MAX: Final = 500
KINDS_MAX: Final = 1_000
"""Kinds of things in a namespace that are looked for. An API server in a stranger's hand could name kinds for ever."""
TRIES: Final = 5
"""A Deployment's status or a Lease changes while we look."""

METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
DISCOVERY: Final = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"

KINDS: Final[Mapping[tuple[str, str], tuple[str, bool]]] = {
    ("v1", "Namespace"): ("/api/v1/namespaces", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): (f"{_RBAC}/clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): (f"{_RBAC}/clusterrolebindings", False),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"): (
        f"{_ADMISSION}/validatingadmissionpolicies", False,
    ),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"): (
        f"{_ADMISSION}/validatingadmissionpolicybindings", False,
    ),
    ("v1", "ServiceAccount"): ("/api/v1/serviceaccounts", True),
    ("v1", "ConfigMap"): ("/api/v1/configmaps", True),
    ("v1", "Secret"): ("/api/v1/secrets", True),
    ("v1", "Service"): ("/api/v1/services", True),
    ("apps/v1", "Deployment"): ("/apis/apps/v1/deployments", True),
    ("apps/v1", "DaemonSet"): ("/apis/apps/v1/daemonsets", True),
    ("policy/v1", "PodDisruptionBudget"): ("/apis/policy/v1/poddisruptionbudgets", True),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("/apis/networking.k8s.io/v1/networkpolicies", True),
    ("coordination.k8s.io/v1", "Lease"): ("/apis/coordination.k8s.io/v1/leases", True),
    ("rbac.authorization.k8s.io/v1", "Role"): (f"{_RBAC}/roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): (f"{_RBAC}/rolebindings", True),
}  # fmt: skip
"""API version and kind of what a manifest holds → path of its list, and whether it lives in a namespace."""

_IN_EVERY_NAMESPACE: Final = {("configmaps", "kube-root-ca.crt"), ("serviceaccounts", "default")}
_OF_NO_WEIGHT: Final = {"events"}

Ask = Callable[[str, str, str, object], Awaitable[tuple[int, Any]]]
"""Method, path, Accept and body (None: none) to status and document (None: no JSON)."""


class NotRemoved(Exception):
    """Why what is there stays. Nothing was deleted unless the text says so."""


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
    """One object of ours, as it was seen."""

    api_version: str
    kind: str
    path: str
    name: str
    namespace: str
    uid: str
    version: str
    owners: tuple[str, ...]

    def reference(self) -> dict[str, str]:
        return {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Removal:
    """One run. `run` returns what it removed."""

    def __init__(self, ask: Ask, cluster_uid: str) -> None:
        self._ask = ask
        self._uid = cluster_uid
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> tuple[list[str], list[str]]:
        """What goes, and namespaces of ours that stay because of what others have in them. Raises NotRemoved.

        Cancelling leaves everything as it is, or everything on its way.
        """
        things = await self._things()
        if not things:
            return [], []
        names = [thing for thing in things if thing.kind == "Namespace"]
        uids = {thing.uid for thing in things}
        strangers = {name: await self._stranger(name, uids) for name in names}  # one after another: each takes slots
        kept = [thing for thing, stranger in strangers.items() if stranger]
        going = [thing for thing in things if thing not in kept]
        anchor = next((t for t in going if t.kind == "ClusterRoleBinding" and t.name == ANCHOR), None)
        if anchor is None:
            raise NotRemoved(f"its ClusterRoleBinding {ANCHOR} is gone, by which the others are removed")
        others = [thing for thing in going if thing is not anchor]
        labelling = next((t for t in going if t.kind == "ClusterRoleBinding" and t.name == NODES), None)
        if labelling is not None:
            await self._labelled()  # that it may be asked is known before anything happens
        tied = await self._each(lambda thing: self._tie(thing, anchor), others)
        if labelling is not None:
            await self._delete(labelling, {"uid": labelling.uid})  # or the agent would put the labels back
            await self._each(self._unlabel, await self._labelled())
        await self._delete(anchor, {"uid": anchor.uid, "resourceVersion": anchor.version})
        removed = [str(thing) for thing, is_tied in zip(others, tied, strict=True) if is_tied]
        return [*removed, str(anchor)], [f"{thing.name} ({strangers[thing]})" for thing in kept]

    async def _things(self) -> list[Thing]:
        """Everything with our label."""
        found = await self._each(lambda kind: self._of_kind(*kind), list(KINDS))
        return [thing for things in found for thing in things]

    async def _of_kind(self, api_version: str, kind: str) -> list[Thing]:
        path, _ = KINDS[api_version, kind]
        query = urlencode({"labelSelector": f"{OWNER_LABEL}={self._uid}", "limit": LIST_MAX})
        items = await self._listed(f"{path}?{query}", f"list {path.rpartition('/')[2]}", missing_ok=True)
        return [thing for item in items if (thing := self._thing(api_version, kind, path, item)) is not None]

    def _thing(self, api_version: str, kind: str, path: str, item: Mapping[str, Any]) -> Thing | None:
        """None for what is not ours after all."""
        meta = item.get("metadata") or {}
        if (meta.get("labels") or {}).get(OWNER_LABEL) != self._uid:
            return None
        namespace = str(meta.get("namespace") or "")
        base, _, plural = path.rpartition("/")
        place = f"{base}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else path
        return Thing(
            api_version=api_version,
            kind=kind,
            path=f"{place}/{quote(str(meta['name']), safe='')}",
            name=str(meta["name"]),
            namespace=namespace,
            uid=str(meta["uid"]),
            version=str(meta["resourceVersion"]),
            owners=tuple(str(owner.get("uid")) for owner in meta.get("ownerReferences") or ()),
        )

    async def _tie(self, thing: Thing, anchor: Thing) -> bool:
        """Make it go with the anchor; False when it is gone or not ours any more. Raises NotRemoved."""
        for _ in range(TRIES):
            if thing.owners == (anchor.uid,):
                return True
            if thing.owners:
                raise NotRemoved(f"{thing} belongs to an object of somebody else's")
            meta = {"uid": thing.uid, "resourceVersion": thing.version, "ownerReferences": [anchor.reference()]}
            status, _ = await self._asked("PATCH", thing.path, {"metadata": meta})
            if status == 404:
                return False
            if status != 409:
                self._need(status, f"change {thing}")
                return True
            status, item = await self._asked("GET", thing.path, None)
            if status == 404:
                return False
            self._need(status, f"read {thing}")
            path, _ = KINDS[thing.api_version, thing.kind]
            again = self._thing(thing.api_version, thing.kind, path, item or {})
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
        status, _ = await self._asked("DELETE", thing.path, body)
        if status != 404:
            self._need(status, f"delete {thing}")

    async def _labelled(self) -> list[str]:
        """The nodes that the agent has chosen for its fallback."""
        query = urlencode({"labelSelector": NODE_LABEL, "limit": LIST_MAX})
        return [str(each["metadata"]["name"]) for each in await self._listed(f"/api/v1/nodes?{query}", "list nodes")]

    async def _unlabel(self, node: str) -> None:
        path = f"/api/v1/nodes/{quote(node, safe='')}"
        status, _ = await self._asked("PATCH", path, {"metadata": {"labels": {NODE_LABEL: None}}})
        if status != 404:
            self._need(status, f"take the label off node {node}")

    async def _stranger(self, namespace: Thing, uids: Collection[str]) -> str:
        """Something in a namespace of ours that is not ours; empty when there is nothing. Owned objects are their
        owner's: pods are ours because the Deployment is. `uids`: what is ours."""
        status, found = await self._ask("GET", "/apis", DISCOVERY, None)
        self._need(status, "ask which resources there are")
        status, core = await self._ask("GET", "/api", DISCOVERY, None)
        self._need(status, "ask which resources there are")
        if not all((each or {}).get("kind") == "APIGroupDiscoveryList" for each in (found, core)):
            return "this API server is too old to tell what is in it"
        paths = list(itertools.islice(_namespaced([*core["items"], *found["items"]], namespace.name), KINDS_MAX + 1))
        if len(paths) > KINDS_MAX:
            raise NotRemoved(f"the API server names more than {KINDS_MAX} kinds")
        held = await self._each(lambda path: self._listed(path, f"list {path}"), paths)
        items = [
            (path.rpartition("/")[2].partition("?")[0], item)
            for path, each in zip(paths, held, strict=True)
            for item in each
        ]
        return _first_stranger(items, uids)

    async def _listed(self, path: str, what: str, *, missing_ok: bool = False) -> list[Mapping[str, Any]]:
        status, found = await self._ask("GET", path, METADATA, None)
        if status == 404 and missing_ok:  # a kind that this API server does not have
            return []
        self._need(status, what)
        if not isinstance(found, dict) or (found.get("metadata") or {}).get("continue"):
            raise NotRemoved(f"there is too much to {what}")
        items: list[Mapping[str, Any]] = [item for item in found.get("items") or () if isinstance(item, dict)]
        if len(items) > LIST_MAX:
            raise NotRemoved(f"the API server answered with more than was asked for to: {what}")
        return items

    async def _asked(self, method: str, path: str, body: object) -> tuple[int, Any]:
        return await self._ask(method, path, "application/json", body)

    async def _each(self, work: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> list[Any]:
        """Some at a time; the first failure ends the others. Order is kept."""

        async def one(item: Any) -> Any:
            async with self._slots:
                return await work(item)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item), name="clean-up") for item in items]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    def _need(self, status: int, what: str) -> None:
        if status in (401, 403):
            raise NotRemoved(f"the cluster does not let the hub's administrators {what} (HTTP {status})")
        if not 200 <= status < 300:
            raise NotRemoved(f"the API server answered {status} to: {what}")


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
