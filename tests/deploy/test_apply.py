"""A real API server takes what the charts make, and the rights in it do what their profile says."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.helm import ROOT, render
from hub.clusters.manifest import dump
from tests.deploy import matrix
from tests.e2e.waiting import until
from tests.harness import Cluster, Result, kubeconfigs, kubectl

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session")]

FALLBACK = "riata.io.node-restriction.kubernetes.io/fallback"
ADMIN = ("--as=riata:ann", "--as-group=riata:hub:cluster-admins", "--as-user-extra=riata.io/request-id=r1")
CASES = [
    (chart, case)
    for chart, case in matrix.CASES
    if case
    not in {
        "monitored",
        "gateway",
        "gateway http",
        "gateway below a path",
        "balanced",
    }  # custom resources; a fixed address
]


@pytest.mark.parametrize(("chart", "case"), CASES)
async def test_the_api_server_takes_it(light_cluster: Cluster, chart: str, case: str) -> None:
    """Dry run on the server: decoding (strict), defaults, validation and admission."""
    values = {**matrix.values_of(chart, case), "namespace": {"create": False}}
    text = dump(render(chart, values, namespace="default"))
    arguments = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    result = (await light_cluster.kubectl(*arguments, stdin=text)).check()
    assert "unknown" not in result.stderr
    assert "Warning" not in result.stderr, result.stderr


@pytest.mark.parametrize("name", ["agent", "hub"])
async def test_the_plain_manifests_are_applied_twice(light_cluster: Cluster, name: str) -> None:
    """For good, and a second time without a change."""
    arguments = ("apply", "--validate=strict", "-f", str(ROOT / name))
    first = (await light_cluster.kubectl(*arguments)).check()
    assert "Warning" not in first.stderr, first.stderr
    get = ("get", "-f", str(ROOT / name), "-o", "jsonpath={range .items[*]}{.kind} {.metadata.generation}{'\\n'}{end}")
    before = (await light_cluster.kubectl(*get)).check().stdout
    (await light_cluster.kubectl(*arguments)).check()
    assert (await light_cluster.kubectl(*get)).check().stdout == before


async def test_what_the_agent_keeps_in_its_secret_survives_the_next_apply(light_cluster: Cluster) -> None:
    manifest = str(ROOT / "agent")
    (await light_cluster.kubectl("apply", "-f", manifest)).check()
    patch = ("patch", "secret", "riata-agent-key", "--namespace=riata-system", "-p", '{"data":{"key":"YQ=="}}')
    (await light_cluster.kubectl(*patch)).check()
    (await light_cluster.kubectl("apply", "-f", manifest)).check()
    arguments = ("get", "secret", "riata-agent-key", "--namespace=riata-system", "-o", "jsonpath={.data.key}")
    assert (await light_cluster.kubectl(*arguments)).check().stdout == "YQ=="


class Account:
    """kubectl with a ServiceAccount's token and nothing else."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self.namespace = namespace

    async def __call__(self, *arguments: str) -> Result:
        return await kubectl(self._kubeconfig, *arguments)

    async def refused(self, *arguments: str) -> str:
        """What the server says when it does not let it."""
        result = await self(*arguments)
        assert result.rc != 0, result.stdout
        assert any(word in result.stderr.lower() for word in ("forbidden", "denied request")), result.stderr
        return result.stderr


async def account(cluster: Cluster, directory: Path, namespace: str, name: str) -> Account:
    created = await cluster.kubectl("create", "token", name, f"--namespace={namespace}")
    path = directory / f"{name}.kubeconfig"
    token = created.check().stdout.strip()
    return Account(kubeconfigs.with_token(path, url=cluster.url, ca=cluster.ca_file, token=token, name=name), namespace)


async def installed(cluster: Cluster, profile: str, *, has_nodes: bool = False) -> str:
    """Install the chart's objects under names of their own; the namespace."""
    namespace = f"rights-{profile}{'-nodes' if has_nodes else ''}"
    values: dict[str, Any] = {
        **(matrix.nodes() if has_nodes else matrix.alone()),
        "namespace": {"create": True},
        "rbac": {"profile": profile},
        "fullnameOverride": namespace,
    }
    text = dump(render("riata-agent", values, namespace=namespace))
    (await cluster.kubectl("apply", "-f", "-", stdin=text)).check()
    return namespace


@pytest_asyncio.fixture(loop_scope="session")
async def agent(request: pytest.FixtureRequest, light_cluster: Cluster, tmp_path: Path) -> Account:
    namespace = await installed(light_cluster, request.param)
    return await account(light_cluster, tmp_path, namespace, namespace)


@pytest.mark.parametrize("agent", ["impersonate", "constrained"], indirect=True)
async def test_a_hub_administrator_may_everything_through_it(agent: Account) -> None:
    who = (await agent("auth", "whoami", *ADMIN, "-o", "json")).check()
    assert json.loads(who.stdout)["status"]["userInfo"]["username"] == "riata:ann"
    name = f"made-by-{agent.namespace}"
    (await agent("create", "configmap", name, "--from-literal=a=b", *ADMIN)).check()
    (await agent("patch", "configmap", name, "-p", '{"data":{"a":"c"}}', *ADMIN)).check()
    (await agent("delete", "configmap", name, *ADMIN)).check()
    (await agent("get", "secrets", "--all-namespaces", *ADMIN)).check()
    (await agent("get", "--raw", "/version", *ADMIN)).check()


@pytest.mark.parametrize("agent", ["impersonate", "constrained", "read-only"], indirect=True)
async def test_the_agent_itself_may_nothing_but_its_key(agent: Account) -> None:
    await agent.refused("get", "namespaces")
    await agent.refused("get", "secrets", f"--namespace={agent.namespace}")
    await agent.refused("get", "secret", "other", f"--namespace={agent.namespace}")
    key = ("secret", f"{agent.namespace}-key", f"--namespace={agent.namespace}")
    (await agent("get", *key)).check()
    await agent.refused("delete", *key)
    await agent.refused("get", "namespaces", "--as=riata:ann", "--as-uid=1")
    await agent.refused("get", "namespaces", "--as=riata:ann", "--as-user-extra=scopes=all")


@pytest.mark.parametrize("agent", ["constrained", "read-only"], indirect=True)
async def test_constrained_it_is_never_a_node_or_a_serviceaccount(agent: Account) -> None:
    await agent.refused("get", "namespaces", "--as=system:serviceaccount:kube-system:default")
    await agent.refused("get", "namespaces", "--as=system:node:node-1", "--as-group=system:nodes")


@pytest.mark.parametrize("agent", ["read-only"], indirect=True)
async def test_read_only_reads_and_nothing_else(agent: Account) -> None:
    for allowed in ("namespaces", "nodes", "deployments.apps", "clusterroles.rbac.authorization.k8s.io"):
        (await agent("get", allowed, "--all-namespaces", *ADMIN)).check()
    (await agent("auth", "whoami", *ADMIN)).check()
    (await agent("auth", "can-i", "--list", *ADMIN)).check()
    await agent.refused("get", "secrets", *ADMIN)
    await agent.refused("create", "configmap", "x", *ADMIN)
    await agent.refused("delete", "namespace", "default", *ADMIN)
    await agent.refused("get", "--raw", "/api/v1/namespaces/default/pods/x/exec?command=id&stdout=true", *ADMIN)
    await agent.refused("get", "--raw", "/api/v1/nodes/x/proxy/pods", *ADMIN)
    await agent.refused("get", "--raw", "/api/v1/namespaces/default/services/x/proxy/", *ADMIN)


async def test_a_node_has_one_label_that_the_cluster_agent_may_change(light_cluster: Cluster, tmp_path: Path) -> None:
    namespace = await installed(light_cluster, "impersonate", has_nodes=True)
    cluster_agent = await account(light_cluster, tmp_path, namespace, namespace)
    node_agent = await account(light_cluster, tmp_path, namespace, f"{namespace}-node")
    fallback = await account(light_cluster, tmp_path, namespace, f"{namespace}-node-fallback")
    # Owned as the nodes of an autoscaler are: without its owner the garbage collector takes the node away.
    role = ("get", "clusterrole", f"{namespace}-nodes", "-o", "jsonpath={.metadata.uid}")
    uid = (await light_cluster.kubectl(*role)).check().stdout
    owner = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": role[2], "uid": uid}
    metadata = {"name": "labelled", "labels": {"a": "b"}, "ownerReferences": [owner]}
    await light_cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata}))
    # From a file: of a name kubectl would get the node first, and the agent may list nodes and not get one.
    file = tmp_path / "node.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "labelled"}}))
    patch = ("patch", f"--filename={file}", "--type=merge", "-p")
    await cluster_agent.refused("get", "node", "labelled")
    (await cluster_agent("get", "nodes")).check()

    async def is_in_force() -> bool:
        probe = json.dumps({"metadata": {"annotations": {"a": "b"}}})
        return (await cluster_agent(*patch, probe, "--dry-run=server")).rc != 0

    await until(is_in_force, what="the API server follows the new admission policy", within=30.0)
    change: dict[str, Any]
    for change in (
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"labels": {"a": None}}},
        {"metadata": {"labels": {"a": "c"}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"finalizers": ["example.org/x"]}},
        {"metadata": {"ownerReferences": []}},
        {"metadata": {"ownerReferences": [{**owner, "name": "nobody", "uid": str(uuid.uuid4())}]}},
        {"metadata": {"ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}]}},
        {"metadata": {"ownerReferences": [owner, {**owner, "name": "nobody", "uid": str(uuid.uuid4())}]}},
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
    ):
        assert "the agent may change no" in await cluster_agent.refused(*patch, json.dumps(change))
    for value in ("true", None):
        (await cluster_agent(*patch, json.dumps({"metadata": {"labels": {FALLBACK: value}}}))).check()
    for stranger in (node_agent, fallback):
        await stranger.refused(*patch, json.dumps({"metadata": {"labels": {FALLBACK: "true"}}}))
    await node_agent.refused("get", "namespaces", *ADMIN)
    (await fallback("get", "namespaces", *ADMIN)).check()
    (await cluster_agent("get", "--raw", "/openid/v1/jwks")).check()
    (await light_cluster.kubectl("delete", "node", "labelled")).check()
