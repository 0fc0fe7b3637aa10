"""A cluster agent chooses fallback nodes of a real API server, with exactly the rights that its chart gives it."""

import json
import time
from pathlib import Path

import pytest

from agent.fallback.choose import LABEL
from deploy.helm import plain, render
from hub.clusters.manifest import dump
from tests import harness
from tests.deploy import matrix
from tests.e2e import measures
from tests.e2e.line import Line, agent_page
from tests.e2e.waiting import until
from tests.harness import kubeconfigs
from tests.harness.commands import kubectl
from tests.harness.pki import Authority

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

NOT_HERE = {"Deployment", "DaemonSet", "NetworkPolicy", "PodDisruptionBudget", "Namespace"}
OPTIONS = ("--fallback-lease", "riata-system/riata-agent")
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "kubernetes", "namespace": "default"},
    "addressType": "IPv4",
    "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    "endpoints": [{"addresses": ["10.20.30.40"]}],
}


async def make_node(line: Line, name: str, *, plane: bool = False) -> None:
    labels = {"node-role.kubernetes.io/control-plane": ""} if plane else {}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    await line.light.apply(json.dumps(node))
    await set_ready(line, name, "True")


async def set_ready(line: Line, name: str, status: str) -> None:
    conditions = [{"type": "Ready", "status": status, "reason": "test", "message": ""}]
    arguments = (
        "patch",
        "node",
        name,
        "--subresource=status",
        "-p",
        json.dumps({"status": {"conditions": conditions}}),
    )
    (await line.light.kubectl(*arguments)).check()


async def labelled(line: Line) -> set[str]:
    found = (await line.light.kubectl("get", "nodes", "-l", LABEL, "-o", "name")).check().stdout
    return {name.removeprefix("node/") for name in found.split()}


async def test_the_cluster_agent_labels_nodes_and_writes_the_endpoints_down(hub_line: Line) -> None:
    line = hub_line
    await line.light.apply(json.dumps(SLICE))
    names = ("fallback-w1", "fallback-w2", "fallback-w3", "fallback-p")
    for name in names:
        await make_node(line, name, plane=name == "fallback-p")
    try:
        async with (
            harness.agent(line.hub, line.light, name="labelling", options=OPTIONS) as one,
            harness.agent(line.hub, line.light, name="labelling-too", options=OPTIONS) as two,
        ):
            # Starting them applied the plain manifests: what was refused until now is tried again.
            documents = [each for each in plain(render("riata-agent", matrix.nodes())) if each["kind"] not in NOT_HERE]
            await line.light.apply(dump(documents))

            async def chosen() -> bool:
                return await labelled(line) == {"fallback-p", "fallback-w1", "fallback-w2"}

            await until(chosen, what="three nodes have the label", within=30, every=0.2)
            pages = [await agent_page(agent) for agent in (one, two)]
            assert sorted(page["riata_agent_fallback_leader"] for page in pages) == [0, 1]
            leader, other = (one, two) if pages[0]["riata_agent_fallback_leader"] else (two, one)
            print(f"\ncluster agent that labels nodes: {measures.resident_mib(leader.pid):.1f} MiB")
            assert measures.resident_mib(leader.pid) <= 90
            get = (
                "get",
                "configmap",
                "riata-agent-endpoints",
                "-n",
                "riata-system",
                "-o",
                "jsonpath={.data.endpoints}",
            )

            async def written() -> bool:
                return (await line.light.kubectl(*get)).check().stdout == "10.20.30.40:6443\n"

            await until(written, what="the endpoints are written down")

            # The other replica goes on at once when this one leaves in order.
            await leader.stop()
            started = time.monotonic()
            (await line.light.kubectl("cordon", "fallback-w1")).check()

            async def replaced() -> bool:
                return await labelled(line) == {"fallback-p", "fallback-w2", "fallback-w3"}

            await until(replaced, what="a cordoned node is replaced by the other replica", within=30, every=0.2)
            print(f"a cordoned node was replaced by the other replica after {time.monotonic() - started:.1f} s")
            assert "answered 403" not in other.log.read_text().partition("this replica chooses")[2]
    finally:
        (await line.light.kubectl("delete", "node", *names)).check()
        (await line.light.kubectl("delete", "endpointslice", "kubernetes", "-n", "default")).check()


async def test_a_kubelet_cannot_give_its_node_the_label(hub_line: Line, tmp_path: Path) -> None:
    """With a kubelet's own client certificate: NodeRestriction refuses this prefix, and other nodes altogether."""
    light = hub_line.light
    await make_node(hub_line, "restricted-1")
    await make_node(hub_line, "restricted-2")
    pair = Authority.load(light.ca_file.parent, "ca").leaf(
        "kubelet-1", "system:node:restricted-1", organizations=["system:nodes"]
    )
    path = tmp_path / "kubelet.kubeconfig"
    kubeconfigs.with_certificate(path, url=light.url, ca=light.ca_file, pair=pair, name="kubelet")
    try:
        (await kubectl(path, "label", "node", "restricted-1", "example.org/own=yes")).check()
        for node, words in (("restricted-1", "is not allowed to modify labels"), ("restricted-2", "Forbidden")):
            refused = await kubectl(path, "label", "node", node, f"{LABEL}=true")
            assert (refused.rc != 0, words in refused.stderr) == (True, True), refused.stderr
        assert not {"restricted-1", "restricted-2"} & await labelled(hub_line)
    finally:
        (await light.kubectl("delete", "node", "restricted-1", "restricted-2")).check()
