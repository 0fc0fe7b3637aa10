"""What is riata's of the objects with its label: what the chart makes for the release that the anchor names."""

from __future__ import annotations

from typing import Any

import pytest

from hub.clusters.manifest import OWNER_LABEL, made
from hub.clusters.owned import KINDS, Release, Thing, anchors, thing

UID = "uid-1"


def seen(version: str, kind: str, name: str, namespace: str = "", **more: Any) -> Thing:
    meta = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": "1", "labels": {OWNER_LABEL: UID}}
    found = thing(version, kind, {"metadata": meta | ({"namespace": namespace} if namespace else {}), **more}, UID)
    assert found is not None
    return found


def anchor(release: str, namespace: str) -> Thing:
    subjects = [
        {"kind": "Group", "name": "people"},
        {"kind": "ServiceAccount", "name": release, "namespace": namespace},
    ]
    return seen("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", f"{release}-impersonate", subjects=subjects)


@pytest.mark.parametrize(("name", "namespace"), [("riata-agent", "riata-system"), ("eu-riata-agent", "edge")])
def test_everything_that_a_manifest_holds_is_the_releases(name: str, namespace: str) -> None:
    release = Release.of(anchor(name, namespace))
    for version, kind, place, called in made():
        where = namespace if place == "riata-system" else place
        if kind == "Namespace":
            assert release.makes(seen(version, kind, namespace))
        else:
            assert release.makes(seen(version, kind, called.replace("riata-agent", name), where)), (kind, called)


def test_every_kind_of_a_manifest_is_looked_for() -> None:
    assert {(version, kind) for version, kind, _, _ in made()} <= set(KINDS)


@pytest.mark.parametrize(
    ("version", "kind", "name", "namespace"),
    [
        ("v1", "Namespace", "kube-system", ""),
        ("v1", "Secret", "precious", "riata-system"),
        ("v1", "Secret", "riata-agent-key", "default"),  # the right name elsewhere
        ("v1", "ConfigMap", "riata-agent-key", "riata-system"),  # another kind of that name
        ("v1", "Secret", "xriata-agent-key", "riata-system"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "cluster-admin", ""),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "other-impersonate", ""),
        ("rbac.authorization.k8s.io/v1", "Role", "riata-agent-endpoints", "kube-system"),
    ],
)
def test_nothing_else_is_whatever_its_label(version: str, kind: str, name: str, namespace: str) -> None:
    assert not Release.of(anchor("riata-agent", "riata-system")).makes(seen(version, kind, name, namespace))


def test_without_the_label_it_is_nothing() -> None:
    meta = {"name": "riata-agent-key", "namespace": "riata-system", "uid": "u", "resourceVersion": "1"}
    assert thing("v1", "Secret", {"metadata": meta}, UID) is None
    assert thing("v1", "Secret", {"metadata": meta | {"labels": {OWNER_LABEL: "uid-2"}}}, UID) is None


def test_the_anchor_is_a_binding_that_ends_so() -> None:
    right = anchor("riata-agent", "riata-system")
    role = seen("rbac.authorization.k8s.io/v1", "ClusterRole", "riata-agent-impersonate")
    assert anchors([role, right]) == [right]


def test_the_charts_monitor_is_the_releases() -> None:
    release = Release.of(anchor("riata-agent", "riata-system"))
    assert release.makes(seen("monitoring.coreos.com/v1", "PodMonitor", "riata-agent", "riata-system"))
