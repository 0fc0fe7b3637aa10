"""What only a real API server knows of its nodes, seen at the hub: through the API and through `riata`."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.helm import plain, render
from hub.clusters.manifest import dump
from tests import harness
from tests.deploy import matrix
from tests.e2e.line import Line
from tests.e2e.test_ctl import _login, _riata
from tests.e2e.test_enrolment import SECRET
from tests.e2e.test_fallback_labels import NOT_HERE
from tests.e2e.waiting import until

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

NAME = "tabled"
OPTIONS = ("--key-secret", "riata-system/riata-agent-key", "--fallback-lease", "riata-system/riata-agent")
NODE = "table-1"


async def make_node(line: Line, kubelet: str) -> None:
    """As a kubelet describes itself."""
    labels = {"node-role.kubernetes.io/control-plane": "", "topology.kubernetes.io/zone": "zone-a"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}}
    await line.light.apply(json.dumps(node))
    info = {
        name: "" for name in ("machineID", "systemUUID", "bootID", "containerRuntimeVersion", "kubeProxyVersion")
    } | {
        "kubeletVersion": kubelet, "osImage": "Debian GNU/Linux 12", "kernelVersion": "6.1.0", "architecture": "amd64",
        "operatingSystem": "linux",
    }  # fmt: skip
    status = {
        "nodeInfo": info,
        "addresses": [{"type": "InternalIP", "address": "10.9.8.7"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "test", "message": ""}],
    }
    patch = ("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    (await line.light.kubectl(*patch)).check()


async def told(line: Line, kubelet: str) -> dict[str, Any]:
    """What the API says of the node once its kubelet is of this version."""

    async def there() -> dict[str, Any] | None:
        answer = await line.api.must("GET", f"/v1/clusters/{NAME}/nodes")
        found = [item for item in answer["items"] if item["name"] == NODE and answer["whole"]]
        return next((item for item in found if item["registered"]["kubelet"] == kubelet), None)

    return await until(there, what=f"the hub knows of the kubelet {kubelet}", within=30)  # type: ignore[return-value]


async def test_roles_and_versions_of_nodes_are_seen_at_the_hub(hub_line: Line, tmp_path: Path) -> None:
    line, riata = hub_line, _riata(tmp_path)
    await line.light.kubectl("delete", "secret", "riata-agent-key", "-n", "riata-system", "--ignore-not-found")
    await make_node(line, "v1.37.2")
    try:
        async with harness.agent(line.hub, line.light, name=NAME, enrol=True, wait=False, options=OPTIONS) as agent:
            documents = [each for each in plain(render("riata-agent", matrix.nodes())) if each["kind"] not in NOT_HERE]
            await line.light.apply(dump(documents))  # the rights that the chart gives, and no more
            await line.light.apply(SECRET)
            await agent.restart()
            found = await told(line, "v1.37.2")
            assert found["registered"] == {
                "roles": ["control-plane"], "kubelet": "v1.37.2", "osImage": "Debian GNU/Linux 12", "kernel": "6.1.0",
                "architecture": "amd64", "addresses": ["10.9.8.7"], "zone": "zone-a", "ready": True,
                "fallback": found["registered"]["fallback"],
            }  # fmt: skip
            assert found["agent"] is None
            await _login(riata, line.hub, line.hub.admin_token_file)
            shown = (await riata("clusters", "show", NAME)).stdout
            (row,) = [row.split() for row in shown.splitlines() if row.startswith(NODE)]
            assert row[:4] == [NODE, "yes", "control-plane", "v1.37.2"]
            # The cluster agent is gone: what it said stays. The next one says what is true then.
            await agent.stop()  # in order, so that the Lease is free for the tests that follow
            assert (await told(line, "v1.37.2"))["registered"]["roles"] == ["control-plane"]
            await make_node(line, "v1.38.0")
            await agent.restart()
            await told(line, "v1.38.0")
            assert "nodes not registered" not in agent.log.read_text().rpartition("agent started")[2]
    finally:
        (await line.light.kubectl("delete", "node", NODE)).check()
