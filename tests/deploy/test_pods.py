"""The images and the manifests in a real cluster: real pods, their ServiceAccounts, kubectl through the hub."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.fallback.choose import LABEL
from deploy.helm import plain, render
from hub.clusters.manifest import dump
from tests import harness
from tests.deploy.conftest import Archives
from tests.e2e.waiting import until
from tests.harness import Cluster, Hub, Result, execute, kubectl
from tests.harness.control_plane import SERVICE_ADDRESS
from tests.harness.node import NODE, NODE_ADDRESS

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session")]

NAMESPACE = "riata-system"
NAME = "pods"
LOOK = (
    "import os, pathlib\n"
    "print(os.getuid(), os.getgid())\n"
    "try: pathlib.Path('/x').write_text('')\n"
    "except OSError as error: print(error.strerror)\n"
    "print(pathlib.Path('/bin/sh').exists(), pathlib.Path('/usr/bin/dpkg').exists())"
)


@dataclass
class Installed:
    """A hub on this machine, and the agents in the pods of `cluster`."""

    hub: Hub
    cluster: Cluster
    kubeconfig: Path

    async def kubectl(self, *arguments: str) -> Result:
        """Through the hub."""
        return await kubectl(self.kubeconfig, *arguments, timeout=60)

    async def pods(self, component: str = "cluster") -> list[dict[str, Any]]:
        arguments = (
            "get",
            "pods",
            "--namespace",
            NAMESPACE,
            "-l",
            f"app.kubernetes.io/component={component}",
            "-o",
            "json",
        )
        found = json.loads((await self.cluster.kubectl(*arguments)).check().stdout)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    async def node_agent(self) -> dict[str, Any]:
        """The agent of the node, as the hub shows it once it is connected."""

        async def connected() -> dict[str, Any] | None:
            items = (await self.hub.api.call("GET", "/v1/agents"))["items"]
            found = [each for each in items if (each["cluster"], each["node"]) == (NAME, NODE)]
            return found[0] if found and found[0]["connected"] else None

        return await until(connected, what="the node agent is connected", within=60, every=0.2)  # type: ignore[return-value]

    async def serving(self) -> dict[str, Any]:
        """What the hub says of the route to the cluster."""
        return dict((await self.hub.api.call("GET", f"/v1/clusters/{NAME}"))["route"])


async def rolled_out(cluster: Cluster, what: str, timeout_s: int = 120) -> None:
    """Wait for it; a failure shows what its pods say."""
    arguments = ("rollout", "status", what, "--namespace", NAMESPACE, f"--timeout={timeout_s}s")
    result = await cluster.kubectl(*arguments, timeout=timeout_s + 10)
    if result.rc != 0:
        described = await cluster.kubectl("describe", "pods", "--namespace", NAMESPACE)
        logs = await cluster.kubectl("logs", what, "--namespace", NAMESPACE, "--all-containers", "--tail=20")
        pytest.fail(f"{result.stderr}\n{described.stdout[-5000:]}\n{logs.stdout}{logs.stderr}")


def agent_manifest(url: str, pin: str, ca: str, token: str, *, audience: str) -> str:
    """The chart's objects as plain manifests, as they are. `token`: a join token."""
    values = {
        "namespace": {"create": True},
        "hub": {"url": url, "caPins": [pin], "ca": ca, "audience": audience},
        "token": {"value": token},
    }
    return dump(plain(render("riata-agent", values)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(full_cluster: Cluster, archives: Archives) -> AsyncIterator[Installed]:
    for name in ("riata-agent", "riata-agent:next"):
        await full_cluster.import_image(archives[name])
    async with harness.hub(name="hub-of-pods") as hub:
        url = hub.url_on(full_cluster.hub_host)
        await full_cluster.allow_hub(int(url.rpartition(":")[2]))
        uid = (await hub.api.create_cluster(NAME))["uid"]
        audience = f"riata:{json.loads((hub.directory / 'ready.json').read_text())['hub_id']}:{uid}"
        token = await hub.api.join_token(NAME)
        manifest = agent_manifest(url, hub.ca_pin, hub.ca_file.read_text(), token, audience=audience)
        applied = (await full_cluster.kubectl("apply", "-f", "-", stdin=manifest)).check()
        assert "Warning" not in applied.stderr, "Pod Security would refuse or warn here"
        try:
            await rolled_out(full_cluster, "deployment/riata-agent")
            yield Installed(hub, full_cluster, await harness.kubeconfig(hub, NAME))
        finally:
            # The namespace and the rights stay: agents of other tests use them.
            kinds = "deployments,daemonsets,poddisruptionbudgets,networkpolicies,secrets,leases"
            await full_cluster.kubectl(
                "delete", kinds, "-l", "app.kubernetes.io/part-of=riata", "-n", NAMESPACE, "--wait"
            )
            await full_cluster.kubectl("label", "node", NODE, f"{LABEL}-")
            arguments = ("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=riata-agent", "--timeout=60s")
            await full_cluster.kubectl(*arguments, "--namespace", NAMESPACE, timeout=70)


async def test_two_agents_run_as_restricted_pods(installed: Installed) -> None:
    pods = await installed.pods()
    assert [pod["status"]["phase"] for pod in pods] == ["Running", "Running"]
    for pod in pods:
        (status,) = pod["status"]["containerStatuses"]
        assert (status["ready"], status["restartCount"]) == (True, 0)
        assert pod["spec"]["serviceAccountName"] == "riata-agent"
    namespace = await installed.cluster.kubectl("get", "namespace", NAMESPACE, "-o", "jsonpath={.metadata.labels}")
    assert json.loads(namespace.check().stdout)["pod-security.kubernetes.io/enforce"] == "restricted"


async def test_the_doctor_finds_nothing_in_the_pods(installed: Installed) -> None:
    """As its page says to call it: by kubectl exec, with the pod's own settings, credential and rights."""

    async def findings(pod: dict[str, Any], *options: str) -> dict[str, dict[str, str]]:
        exec_ = ("exec", pod["metadata"]["name"], "--namespace", NAMESPACE, "--", "riata-agent", "doctor", "-o", "json")
        done = await installed.cluster.kubectl(*exec_, *options)
        assert done.rc == 0, done.stdout + done.stderr
        return {each["check"]: each for each in json.loads(done.stdout)["findings"]}

    async def node_pods() -> list[dict[str, Any]]:
        return [*await installed.pods("node"), *await installed.pods("node-fallback")]

    await installed.node_agent()
    found = await findings((await installed.pods())[0])
    assert {each["level"] for each in found.values()} == {"ok"}, found
    assert f"the hub takes it for cluster {NAME}" in found["credential"]["what"]
    assert "runs here, connected" in found["agent"]["what"]
    found = await findings((await node_pods())[0], "--mode", "node")
    assert {each["level"] for each in found.values()} == {"ok"}, found


async def test_kubectl_through_the_hub_reaches_the_cluster(installed: Installed) -> None:
    who = (await installed.kubectl("auth", "whoami", "-o", "json")).check()
    assert json.loads(who.stdout)["status"]["userInfo"]["groups"][-2:] == [
        "riata:hub:cluster-admins",
        "system:authenticated",
    ]
    nodes = (await installed.kubectl("get", "nodes", "-o", "name")).check()
    assert nodes.stdout.split() == ["node/node-1"]


async def test_the_image_is_what_it_should_be(installed: Installed) -> None:
    """Looked at from inside the agent's own pod, with an exec that it carries itself."""
    name = (await installed.pods())[0]["metadata"]["name"]
    command = ("exec", "--namespace", NAMESPACE, name, "--", "python3", "-I", "-c", LOOK)
    said = (await installed.kubectl(*command)).check().stdout
    assert said.splitlines() == ["65532 65532", "Read-only file system", "False False"]
    version = (
        await installed.kubectl("exec", "--namespace", NAMESPACE, name, "--", "riata-agent", "--version")
    ).check()
    assert version.stdout.startswith("riata-agent ")


@asynccontextmanager
async def reading(installed: Installed) -> AsyncIterator[list[str]]:
    """Reads through the hub, one after the other, until the block ends; the failures."""
    failures: list[str] = []
    done = asyncio.Event()
    count = 0

    async def read() -> None:
        nonlocal count
        while not done.is_set():
            result = await installed.kubectl("get", "--raw", "/api/v1/namespaces/default")
            count += 1
            if result.rc != 0:
                failures.append(result.stderr)

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(read(), name=f"reader {number}")
        try:
            yield failures
        finally:
            done.set()
    assert count > 10


async def test_a_pod_that_is_deleted_comes_back_and_nobody_notices(installed: Installed) -> None:
    before = {pod["metadata"]["uid"] for pod in await installed.pods()}
    name = (await installed.pods())[0]["metadata"]["name"]
    async with reading(installed) as failures:
        (await installed.cluster.kubectl("delete", "pod", name, "--namespace", NAMESPACE, "--wait")).check()
        await rolled_out(installed.cluster, "deployment/riata-agent")
    assert failures == []
    assert len({pod["metadata"]["uid"] for pod in await installed.pods()} - before) == 1


async def test_another_version_rolls_out_under_load(installed: Installed) -> None:
    async with reading(installed) as failures:
        arguments = ("set", "image", "deployment/riata-agent", "agent=riata-agent:next", "--namespace", NAMESPACE)
        (await installed.cluster.kubectl(*arguments)).check()
        await rolled_out(installed.cluster, "deployment/riata-agent")
        await asyncio.sleep(1)
    assert failures == []
    assert {pod["spec"]["containers"][0]["image"] for pod in await installed.pods()} == {"riata-agent:next"}


# --- node agents


async def test_the_labelled_node_runs_the_fallback_and_no_other_node_agent(installed: Installed) -> None:
    async def there() -> bool:
        fallback, others = await installed.pods("node-fallback"), await installed.pods("node")
        return [pod["status"]["phase"] for pod in fallback] == ["Running"] and not others

    await until(there, what="the cluster agent has labelled the node and its DaemonSet follows", within=90, every=0.5)
    await rolled_out(installed.cluster, "daemonset/riata-agent-node-fallback")
    (pod,) = await installed.pods("node-fallback")
    assert pod["spec"]["serviceAccountName"] == "riata-agent-node-fallback"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    found = await installed.node_agent()
    assert (found["role"], found["credential"]) == ("node", "service-account")
    labels = (await installed.cluster.kubectl("get", "node", NODE, "-o", "jsonpath={.metadata.labels}")).check()
    assert json.loads(labels.stdout)[LABEL] == "true"
    refused = await kubectl(
        installed.cluster.directory / "node.kubeconfig",
        *("label", "node", NODE, f"{LABEL}=mine", "--overwrite"),
        prefix=installed.cluster.command_prefix,
    )
    assert "is not allowed to modify labels" in refused.stderr


async def test_the_hub_shows_what_the_api_server_and_the_agent_know_of_the_node(installed: Installed) -> None:
    """A real kubelet's version, told by the cluster agent with the rights that its chart gives it."""
    arguments = ("get", "node", NODE, "-o", "jsonpath={.status.nodeInfo}")
    real = json.loads((await installed.cluster.kubectl(*arguments)).check().stdout)

    async def told() -> dict[str, Any] | None:
        answer = await installed.hub.api.call("GET", f"/v1/clusters/{NAME}/nodes")
        (node,) = answer["items"]
        return node if node["registered"] and node["agent"] else None

    node: dict[str, Any] = await until(told, what="the hub knows the node", within=30, every=0.2)  # type: ignore[assignment]
    registered, facts = node["registered"], node["agent"]["facts"]
    assert (registered["kubelet"], registered["osImage"]) == (real["kubeletVersion"], real["osImage"])
    assert (registered["kernel"], registered["architecture"]) == (real["kernelVersion"], real["architecture"])
    assert NODE_ADDRESS in registered["addresses"]
    assert (node["name"], registered["ready"], facts["kernel"]) == (NODE, True, real["kernelVersion"])
    assert (await installed.node_agent())["registeredNode"]["kubelet"] == real["kubeletVersion"]


async def test_a_node_agents_pod_that_is_deleted_comes_back(installed: Installed) -> None:
    before = await installed.node_agent()
    (pod,) = await installed.pods("node-fallback")
    name = pod["metadata"]["name"]
    (await installed.cluster.kubectl("delete", "pod", name, "--namespace", NAMESPACE, "--wait")).check()
    started = time.monotonic()

    async def another() -> bool:
        return (await installed.node_agent())["instance"] != before["instance"]

    await until(another, what="another instance is connected", within=60, every=0.2)
    facts = (await installed.node_agent())["nodeFacts"]
    assert facts["addresses"] == [NODE_ADDRESS]
    assert facts["roles"] == ["control-plane"], "the API server's endpoint is this node's address"
    print(f"\nthe node agent was back {time.monotonic() - started:.1f} s after its pod was gone")


async def test_without_cluster_agents_the_node_agent_carries_kubectl(installed: Installed) -> None:
    """Also while the Service of the API server is no way to it, as without kube-proxy."""
    cluster = installed.cluster
    scale = ("scale", "deployment/riata-agent", "--namespace", NAMESPACE)
    try:
        (await cluster.kubectl(*scale, "--replicas=0")).check()

        async def alone() -> bool:
            return (await installed.serving())["role"] == "node" and not await installed.pods()

        await until(alone, what="the cluster agents are gone", within=60, every=0.2)
        started = time.monotonic()
        nodes = (await installed.kubectl("get", "nodes", "-o", "name")).check()
        print(f"\nkubectl by the node agent: {time.monotonic() - started:.2f} s")
        assert nodes.stdout.split() == [f"node/{NODE}"]
        made = ("create", "configmap", "by-a-node-agent", "--from-literal=a=b")
        (await installed.kubectl(*made)).check()
        (pod,) = await installed.pods("node-fallback")
        name = pod["metadata"]["name"]
        command = ("exec", "--namespace", NAMESPACE, name, "--", "python3", "-I", "-c", "print(6 * 7)")
        assert (await installed.kubectl(*command)).check().stdout == "42\n"

        await without_service(cluster)
        started = time.monotonic()
        (await installed.kubectl("get", "configmap", "by-a-node-agent")).check()
        print(f"kubectl by the node agent without the Service: {time.monotonic() - started:.2f} s")
        (await installed.kubectl("delete", "configmap", "by-a-node-agent")).check()
        logged = (await installed.kubectl("logs", name, "--namespace", NAMESPACE)).check().stdout
        assert "Service is no way to it" in logged
        await with_service(cluster)
        await the_other_daemonset_serves_nobody(installed)
    finally:
        await with_service(cluster)
        (await cluster.kubectl(*scale, "--replicas=2")).check()

    async def back() -> bool:
        return (await installed.serving())["role"] == "cluster"

    await until(back, what="a cluster agent serves again", within=60, every=0.2)
    await rolled_out(cluster, "deployment/riata-agent")


async def the_other_daemonset_serves_nobody(installed: Installed) -> None:
    """Without the label, and nobody there to set it, the node runs the agent whose ServiceAccount has no right."""
    (await installed.cluster.kubectl("label", "node", NODE, f"{LABEL}-")).check()

    async def moved() -> bool:
        others = await installed.pods("node")
        return [pod["status"]["phase"] for pod in others] == ["Running"] and not await installed.pods("node-fallback")

    await until(moved, what="the node's pod is the other DaemonSet's", within=60, every=0.5)
    (pod,) = await installed.pods("node")
    assert pod["spec"]["serviceAccountName"] == "riata-agent-node"

    async def listed() -> bool:
        return (await installed.serving())["reason"] == "none-eligible"

    await until(listed, what="its agent is connected and serves nobody", within=60, every=0.2)
    refused = await installed.kubectl("get", "nodes")
    assert refused.rc != 0
    assert "serv" in refused.stderr.lower(), refused.stderr


async def nft(cluster: Cluster, rules: str) -> None:
    (await execute([*cluster.command_prefix, "nft", "-f", "-"], stdin=rules, timeout=15)).check()


async def without_service(cluster: Cluster) -> None:
    """Packets of pods to the Service vanish, those of connections that are open too."""
    await nft(
        cluster,
        "add table ip gone\n"
        "add chain ip gone raw { type filter hook prerouting priority -300; }\n"
        f"add rule ip gone raw ip daddr {SERVICE_ADDRESS} drop\n",
    )


async def with_service(cluster: Cluster) -> None:
    await nft(cluster, "add table ip gone\ndelete table ip gone\n")
