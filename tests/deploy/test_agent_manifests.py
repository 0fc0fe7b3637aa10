"""The agent's manifests: they parse, they grant one thing, and the pod can do nothing else."""

import tomllib
from pathlib import Path

import pytest
import yaml

from agent import cli
from agent.relay.policy import Exceptions

DIRECTORY = Path(__file__).parents[2] / "deploy" / "agent"
FILES = sorted(DIRECTORY.glob("*.yaml"))
DOCUMENTS = [(path.name, document) for path in FILES for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind):
    return [document for _, document in DOCUMENTS if document["kind"] == kind]


@pytest.fixture
def pod():
    (deployment,) = of_kind("Deployment")
    return deployment["spec"]["template"]["spec"]


def test_each_document_is_a_kubernetes_object_of_ours():
    for _, document in DOCUMENTS:
        assert {"apiVersion", "kind", "metadata"} <= set(document)
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "riata"
        assert "riata" in document["metadata"]["name"]


def test_there_is_nothing_but_what_is_expected():
    assert [(name, document["kind"]) for name, document in DOCUMENTS] == [
        ("00-namespace.yaml", "Namespace"),
        ("10-rbac.yaml", "ServiceAccount"),
        ("10-rbac.yaml", "ClusterRole"),
        ("10-rbac.yaml", "ClusterRoleBinding"),
        ("20-cluster-admins.yaml", "ClusterRoleBinding"),
        ("30-settings.yaml", "ConfigMap"),
        ("40-deployment.yaml", "Deployment"),
    ]


def test_the_agent_may_impersonate_and_nothing_else():
    (role,) = of_kind("ClusterRole")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {
        ("", "users", "impersonate"),
        ("", "groups", "impersonate"),
        ("authentication.k8s.io", "userextras/riata-request-id", "impersonate"),
    }
    for rule in role["rules"]:
        assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}


def test_no_stars_anywhere_in_roles():
    for document in of_kind("ClusterRole") + of_kind("Role"):
        assert "*" not in yaml.safe_dump(document)


def test_bindings():
    impersonate, admins = of_kind("ClusterRoleBinding")
    assert impersonate["roleRef"]["name"] == "riata-agent-impersonate"
    assert impersonate["subjects"] == [{"kind": "ServiceAccount", "name": "riata-agent", "namespace": "riata-system"}]
    assert admins["roleRef"]["name"] == "cluster-admin"
    (subject,) = admins["subjects"]
    assert (subject["kind"], subject["name"]) == ("Group", "riata:hub:cluster-admins")


def test_the_pod_has_no_privilege(pod):
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        assert name not in pod
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_the_agent_finds_what_it_needs(pod):
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert all(mount["readOnly"] for mount in mounts.values())
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}
    (settings,) = of_kind("ConfigMap")
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for variable in container["env"]:
        source = variable.get("valueFrom", {}).get("configMapKeyRef")
        environ[variable["name"]] = settings["data"][source["key"]] if source else variable["value"]
    result = cli.settings(container["args"], environ)
    for path in (result.hub.token_file, result.kube.token_file, result.kube.ca_file, result.policy_file):
        assert str(path.parent) in mounts
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert result.serve.health_listen == f"0.0.0.0:{ports['health']}"
    assert result.serve.metrics_listen == f"0.0.0.0:{ports['metrics']}"
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_the_drain_fits_into_the_grace_period(pod):
    from agent.app import DRAIN_DEADLINE

    assert pod["terminationGracePeriodSeconds"] > DRAIN_DEADLINE + 5


def test_the_policy_as_shipped_allows_nothing_more():
    (settings,) = of_kind("ConfigMap")
    assert Exceptions.from_toml(settings["data"]["policy.toml"].encode()) == Exceptions()
    assert set(tomllib.loads(settings["data"]["policy.toml"])) == {"users", "groups"}


def test_the_example_pin_is_refused_by_no_accident():
    """It is well-formed, so that the manifest parses, and matches no key."""
    (settings,) = of_kind("ConfigMap")
    assert settings["data"]["hub-ca-pin"] == "sha256:" + "0" * 64
