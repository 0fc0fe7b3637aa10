"""A node drain, asked of a real API server as kubectl asks it: by evictions, which the charts' budgets allow or not."""

import json
from typing import Any

import pytest

from deploy.helm import render
from deploy.render import agent_values, hub_values
from hub.clusters.manifest import dump
from tests.e2e.waiting import until
from tests.harness import Cluster

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session")]

WANTED = {"ServiceAccount", "ConfigMap", "Secret", "Service", "Deployment", "StatefulSet", "PodDisruptionBudget"}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drained"}}
NOT_READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
"""What a kubelet says of an agent while the hub is away, and of a hub with a setting that it refuses."""


@pytest.mark.parametrize(
    ("chart", "values", "count"),
    [
        ("riata-agent", agent_values(nodeAgents={"enabled": False}), 2),
        ("riata-hub", hub_values(), 1),
        ("riata-hub", hub_values(podDisruptionBudget={"maxUnavailable": 0}), 1),
    ],
    ids=["agents", "hub", "hub that may not be moved"],
)
async def test_a_drain_does_not_wait_for_pods_that_are_not_ready(
    light_cluster: Cluster, chart: str, values: dict[str, Any], count: int
) -> None:
    """An outage of the hub makes all agents not ready: no node of any cluster could be drained until it is back."""
    namespace = "drained"
    documents = [each for each in render(chart, values, namespace=namespace) if each["kind"] in WANTED]
    for document in documents:
        if "template" in document.get("spec", {}):
            document["spec"]["template"]["spec"]["nodeName"] = NODE["metadata"]["name"]  # type: ignore[index]

    async def items(kind: str) -> list[dict[str, Any]]:
        found = (await light_cluster.kubectl("get", kind, f"--namespace={namespace}", "-o", "json")).check()
        return list(json.loads(found.stdout)["items"])

    async def there() -> bool:
        return len(await items("pods")) == count

    async def counted() -> bool:
        (budget,) = await items("poddisruptionbudgets")
        status = budget.get("status", {})
        return (status.get("expectedPods"), status.get("currentHealthy")) == (count, 0)

    (await light_cluster.kubectl("create", "namespace", namespace)).check()
    await light_cluster.apply(json.dumps(NODE))
    try:
        await light_cluster.apply(dump(documents))
        await until(there, what="the pods are there")
        names = [pod["metadata"]["name"] for pod in await items("pods")]
        for name in names:
            status = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": NOT_READY}))
            (await light_cluster.kubectl("patch", "pod", name, f"--namespace={namespace}", *status)).check()
        await until(counted, what="the budget has seen that none is ready")
        for name in names:
            metadata = {"name": name, "namespace": namespace}
            eviction = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
            where = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
            (await light_cluster.kubectl("create", "--raw", where, "-f", "-", stdin=eviction)).check()
    finally:
        everything = ("deployments,statefulsets,pods", "--all", f"--namespace={namespace}")
        await light_cluster.kubectl("delete", *everything, "--force", "--grace-period=0")
        await light_cluster.kubectl("delete", "namespace", namespace, "--wait", timeout=60)
        await light_cluster.kubectl("delete", "node", "drained")
