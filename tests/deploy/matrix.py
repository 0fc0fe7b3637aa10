"""The values for which the charts are rendered: each option away from its default, and the usual combinations."""

import itertools
from typing import Any

from deploy.render import agent_values, hub_values

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PEER = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
TOLERATION = [{"key": "dedicated", "operator": "Exists"}]
SPREAD = [
    {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"a": "b"}},
    }
]
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}
            ]
        }
    }
}
IMAGE = {"registry": "registry.example:5000", "tag": "1.2.3", "digest": "sha256:" + "a" * 64, "pullPolicy": "Always"}
EXTRAS: dict[str, Any] = {
    "extraEnv": [{"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}}],
    "extraArgs": ["--log-level", "debug"],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "riata-more"}, "data": {"a": "b"}}],
}
PLACING: dict[str, Any] = {
    "podAnnotations": {"example.org/a": "b: c"},
    "podLabels": {"team": "x"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": TOLERATION,
    "affinity": AFFINITY,
    "topologySpreadConstraints": SPREAD,
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccount": {"create": True, "annotations": {"example.org/a": "b"}},
}


def nodes(**others: Any) -> dict[str, Any]:
    """Values with node agents."""
    values = agent_values(nodeAgents=others)
    values["hub"] |= {"audience": "riata:hub-1:cluster-1", "clusterUid": "cluster-1"}
    return values


def alone(**others: Any) -> dict[str, Any]:
    """Values without node agents, and so without an audience."""
    values = agent_values(nodeAgents={"enabled": False}, **others)
    del values["hub"]["audience"]
    return values


def _agents() -> dict[str, dict[str, Any]]:
    with_ca = agent_values()
    with_ca["hub"] |= {"ca": PEM, "caPins": ["sha256:" + "0" * 64, "sha256:" + "1" * 64]}
    found = {
        "default": agent_values(),
        "ca": with_ca,
        "placed": agent_values(image=IMAGE, **PLACING),
        "extras": agent_values(**EXTRAS),
        "token": agent_values(token={"value": "abc"}),
        "agent token": alone(token={"value": "abc"}, enrolment={"enabled": False}),
        "alone": alone(token={"value": "abc"}),
        "existing": agent_values(token={"existingSecret": "mine"}, replicaCount=3),
        "monitored": agent_values(
            metrics={"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
            networkPolicy={"enabled": True, "metricsFrom": PEER},
        ),
        "bare": agent_values(
            podDisruptionBudget={"enabled": False},
            networkPolicy={"enabled": False},
            rbac={"create": False},
            serviceAccount={"create": False},
        ),
        "named": agent_values(fullnameOverride="other", policy={"users": ['a "b"'], "groups": ["x: y"]}),
        "namespace": {**nodes(), "namespace": {"create": True}},
        "nodes placed": nodes(
            nodeSelector={"a": "b"}, tolerations=TOLERATION, priorityClassName="high", podLabels={"a": "b"}
        ),
        "nodes surging": nodes(updateStrategy={"rollingUpdate": {"maxSurge": 1}}),
    }
    for profile, is_admin in itertools.product(("impersonate", "constrained", "read-only"), (True, False)):
        rbac = {"profile": profile, "clusterAdmins": is_admin, "readOnlyApiGroups": ["example.org"]}
        found[f"{profile} {is_admin}"] = alone(rbac=rbac)
        found[f"{profile} {is_admin} nodes"] = {**nodes(), "rbac": rbac}
    return found


AGENT = _agents()
HUB: dict[str, dict[str, Any]] = {
    "default": hub_values(),
    "placed": hub_values(image=IMAGE, **PLACING),
    "extras": hub_values(**EXTRAS),
    "own certificate": hub_values(tls={"existingSecret": "hub-tls", "ca": True}),
    "own encryption key": hub_values(encryption={"existingSecret": "hub-encryption"}),
    "own certificate, no CA": hub_values(tls={"existingSecret": "hub-tls"}),
    "names": hub_values(tls={"names": ["10.0.0.1", "hub.internal"]}),
    "claim": hub_values(persistence={"existingClaim": "mine"}, namespace={"create": True}),
    "storage": hub_values(persistence={"storageClass": "fast", "size": "1Gi"}),
    "balanced": hub_values(
        service={
            "type": "LoadBalancer",
            "annotations": {"a": "b"},
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "clusterIP": "10.0.0.77",
            "externalTrafficPolicy": "Local",
        }
    ),
    "node port": hub_values(service={"type": "NodePort", "nodePort": 30443, "ipFamilyPolicy": "PreferDualStack"}),
    "ingress": hub_values(
        ingress={"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "tlsSecret": "front"}
    ),
    "ingress through": hub_values(ingress={"enabled": True, "host": "other.example.org"}),
    "gateway": hub_values(gateway={"enabled": True, "parentRefs": [{"name": "front", "sectionName": "tls"}]}),
    "gateway http": hub_values(
        gateway={
            "enabled": True,
            "kind": "HTTPRoute",
            "parentRefs": [{"name": "front"}],
            "hostnames": ["a.example.org"],
        }
    ),
    "ingress below a path": hub_values(
        publicUrl="https://hub.example.org/riata", ingress={"enabled": True, "annotations": {"a": "b"}}
    ),
    "gateway below a path": hub_values(
        publicUrl="https://hub.example.org:8443/riata/",
        gateway={"enabled": True, "kind": "HTTPRoute", "parentRefs": [{"name": "front"}]},
    ),
    "monitored": hub_values(
        metrics={
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True, "labels": {"team": "platform"}},
        },
        networkPolicy={"enabled": True, "from": PEER, "metricsFrom": PEER, "extraEgress": [{"to": PEER}]},
    ),
    "settings": hub_values(
        settings={"api.request_timeout_s": 60, "buffer_bytes": 67108864, "host_names": "a,b"},
        drainDelaySeconds=0,
        drainGraceSeconds=120,
        log={"level": "debug", "format": "console"},
    ),
    "bare": hub_values(
        podDisruptionBudget={"enabled": False},
        networkPolicy={"enabled": False},
        serviceAccount={"create": False},
        replicaCount=0,
    ),
}
CASES = [("riata-agent", name) for name in AGENT] + [("riata-hub", name) for name in HUB]


def values_of(chart: str, name: str) -> dict[str, Any]:
    """Values of one case."""
    return (AGENT if chart == "riata-agent" else HUB)[name]
