"""Which objects of a cluster are riata's: those that its manifest or its chart makes, with the owner label.

The label alone is not enough. Whoever may change an object of theirs can put it there, perhaps without the right to
delete it, and what has it is deleted with the rights of an administrator. So an object is ours only with a kind, a name
and a place that the chart makes for this release. The release is told by its binding that lets the agent impersonate:
who may make one of those needs nobody else to delete things.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from hub.clusters.manifest import NAMESPACE, OWNER_LABEL, made

ANCHOR: Final = "-impersonate"
"""How the ClusterRoleBinding ends that the others are made to depend on; before it stands the release."""
NODES: Final = "-nodes"
"""The ClusterRoleBinding by which the agent labels nodes."""
BINDING: Final = "ClusterRoleBinding"

_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
_MONITORS: Final = "monitoring.coreos.com/v1"

KINDS: Final[Mapping[tuple[str, str], tuple[str, bool]]] = {
    ("v1", "Namespace"): ("/api/v1/namespaces", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): (f"{_RBAC}/clusterroles", False),
    ("rbac.authorization.k8s.io/v1", BINDING): (f"{_RBAC}/clusterrolebindings", False),
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
    (_MONITORS, "PodMonitor"): (f"/apis/{_MONITORS}/podmonitors", True),
}  # fmt: skip
"""API version and kind of what a manifest holds → path of its list, and whether it lives in a namespace."""

BY_HAND: Final = ",".join(
    path.rpartition("/")[2]
    for (version, kind), (path, _) in KINDS.items()
    if version != _MONITORS and kind != "Namespace"
)
"""The same for kubectl, which refuses a kind that a cluster may lack. No namespace: it would go with whatever is in it,
a hub and its volume where the hub's cluster is a member."""

_RELEASE: Final = "riata-agent"
_HOME: Final = "(home)"
"""Stands for the namespace of the release."""


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
    """One object with our label, as it was seen."""

    api_version: str
    kind: str
    path: str
    name: str
    namespace: str
    uid: str
    version: str
    owners: tuple[str, ...]
    subject_namespace: str
    """Of a binding: where its first ServiceAccount is."""

    def reference(self) -> dict[str, str]:
        return {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def thing(api_version: str, kind: str, item: Mapping[str, Any], cluster_uid: str) -> Thing | None:
    """None for what has no label of this cluster."""
    meta = item.get("metadata") or {}
    if (meta.get("labels") or {}).get(OWNER_LABEL) != cluster_uid:
        return None
    path, _ = KINDS[api_version, kind]
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
        subject_namespace=_subject_namespace(item.get("subjects") or ()),
    )


def anchors(things: Iterable[Thing]) -> list[Thing]:
    """The bindings that may be a release's anchor. One is what there should be."""
    return [each for each in things if each.kind == BINDING and each.name.endswith(ANCHOR)]


@dataclasses.dataclass(frozen=True, slots=True)
class Release:
    """What the chart was installed as."""

    name: str
    namespace: str

    @staticmethod
    def of(anchor: Thing) -> Release:
        return Release(anchor.name.removesuffix(ANCHOR), anchor.subject_namespace)

    def makes(self, what: Thing) -> bool:
        """Whether the chart has an object of this kind, name and place."""
        if what.kind == "Namespace":
            return what.name == self.namespace
        places = {what.namespace, _HOME} if what.namespace == self.namespace else {what.namespace}
        suffix = what.name.removeprefix(self.name)
        return what.name.startswith(self.name) and any(
            (what.api_version, what.kind, suffix, place) in _made() for place in places
        )


def _subject_namespace(subjects: Iterable[Mapping[str, Any]]) -> str:
    return next((str(each.get("namespace") or "") for each in subjects if each.get("kind") == "ServiceAccount"), "")


@functools.cache
def _made() -> frozenset[tuple[str, str, str, str]]:
    """API version, kind, what follows the release in the name, place."""
    found = {
        (version, kind, name.removeprefix(_RELEASE), _HOME if namespace == NAMESPACE else namespace)
        for version, kind, namespace, name in made()
    }
    return frozenset({*found, (_MONITORS, "PodMonitor", "", _HOME)})  # only the chart has this one
