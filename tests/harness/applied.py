"""An agent process with what its applied manifest gives the pod: environment, files and rights, read back from the API
server, so that a missing right or a wrong path fails here as it would there."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.harness import agents
from tests.harness.agent_pod import NAMESPACE, PodOf
from tests.harness.agents import Agent
from tests.harness.clusters import Cluster
from tests.harness.failures import HarnessError
from tests.harness.hubs import Hub
from tests.harness.pki import write_private
from tests.harness.runs import Run

DEPLOYMENT: Final = "riata-agent"
FALLBACK: Final = "riata-agent-node-fallback"
"""The DaemonSet of the node agents that carry requests when no cluster agent does, and its ServiceAccount."""
NODE_LABEL: Final = "riata.io.node-restriction.kubernetes.io/fallback"
_CHOSEN_S: Final = 30.0
_HUB_TOKEN: Final = "/var/run/secrets/riata"
"""Where a node agent's pod has the token that it shows the hub."""
_PROCESS: Final = ("RIATA_AGENT_HEALTH_LISTEN", "RIATA_AGENT_METRICS_LISTEN", "RIATA_AGENT_HUB_URL")
"""Where a process differs from a pod: it has no network of its own."""


@asynccontextmanager
async def applied_agent(
    hub: Hub,
    cluster: Cluster,
    *,
    name: str | None = None,
    form: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    apply: bool = True,
) -> AsyncIterator[Agent]:
    """Make the cluster at the hub, apply the manifest that it answers with, and run the agent that is then described in
    the cluster; connected on return. `form`: fields of ManifestRequest. `apply` False: somebody has applied it."""
    registered = name or cluster.name
    await cluster.allow_hub(urlsplit(hub.url_on(cluster.hub_host)).port or 443)
    if apply:
        await hub.api.create_cluster(registered)
        made = await hub.api.call("POST", f"/v1/clusters/{registered}/manifest", dict(form or {}))
        await cluster.apply(str(made["manifest"]))
        await cluster.kubectl("scale", "deployment", DEPLOYMENT, "--replicas=0", "--namespace", NAMESPACE)
    directory = Run.current().subdirectory(f"agent-{registered}")
    pod = await cluster.agent_pod(directory / "pod", apply=False)
    environment = await _laid_out(cluster, directory / "mounts", "deployment", DEPLOYMENT)
    running = await agents.started(registered, pod, directory, hub, options, environment)
    try:
        await running.connected()
        yield running
    finally:
        await running.stop()
        pod.close()


@asynccontextmanager
async def applied_node_agent(hub: Hub, cluster: Cluster, *, name: str | None = None) -> AsyncIterator[Agent]:
    """The fallback's node agent of one node that the cluster agent has chosen, connected on return. The manifest with
    node agents is applied. No DaemonSet finds a node after that: what it would start there is this process."""
    registered = name or cluster.name
    off = json.dumps({"spec": {"template": {"spec": {"nodeSelector": {"riata.test/outside": "true"}}}}})
    for daemonset in ("riata-agent-node", FALLBACK):
        patch = ("patch", "daemonset", daemonset, "--namespace", NAMESPACE, "--patch", off)
        (await cluster.kubectl(*patch)).check()
    node = await _chosen(cluster)
    directory = Run.current().subdirectory(f"node-agent-{registered}")
    audience = await _audience(cluster)
    pod = await cluster.agent_pod(directory / "pod", apply=False, of=PodOf("daemonset", FALLBACK, node, audience))
    environment = await _laid_out(cluster, directory / "mounts", "daemonset", FALLBACK)
    environment = {key: _moved(value, {_HUB_TOKEN: str(pod.directory / "hub")}) for key, value in environment.items()}
    running = await agents.started(registered, pod, directory, hub, (), environment, mode="node")
    try:
        await running.in_list(f"{registered}:{node}")
        yield running
    finally:
        await running.stop()
        pod.close()


async def _chosen(cluster: Cluster) -> str:
    """A node with the fallback's label."""
    deadline = asyncio.get_running_loop().time() + _CHOSEN_S
    while True:
        found = (await cluster.kubectl("get", "nodes", "-l", NODE_LABEL, "-o", "name")).check().stdout.split()
        if found:
            return found[0].partition("/")[2]
        if asyncio.get_running_loop().time() > deadline:
            raise HarnessError(f"the cluster agent chose no node for the fallback within {_CHOSEN_S:g} s")
        await asyncio.sleep(0.2)


async def _audience(cluster: Cluster) -> str:
    """Of the projected token that the DaemonSet asks for."""
    spec = (await _object(cluster, "daemonset", FALLBACK))["spec"]["template"]["spec"]
    sources = [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", ())]
    tokens = [source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source]
    return next(str(token["audience"]) for token in tokens if "audience" in token)


async def _laid_out(cluster: Cluster, root: Path, kind: str, name: str) -> dict[str, str]:
    """The files of the agent's ConfigMaps and Secrets below `root`, and its environment with these places in it."""
    found = await _object(cluster, kind, name)
    spec = found["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    places: dict[str, str] = {}
    for mount in container["volumeMounts"]:
        files = await _files(cluster, volumes[mount["name"]])
        if files is None:
            continue
        place = root / mount["name"]
        place.mkdir(parents=True)
        for file, content in files.items():
            write_private(place / file, content)
        places[mount["mountPath"]] = str(place)
    environment = {
        each["name"]: each["value"] for each in container["env"] if each["name"] not in _PROCESS and "value" in each
    }
    return {key: _moved(value, places) for key, value in environment.items()}


async def _files(cluster: Cluster, volume: Mapping[str, Any]) -> dict[str, bytes] | None:
    """What a volume holds; None for the projected one, which AgentPod lays out as the kubelet would."""
    if "configMap" in volume:
        source = volume["configMap"]
        data = (await _object(cluster, "configmap", source["name"])).get("data") or {}
        held = {key: text.encode() for key, text in data.items()}
    elif "secret" in volume:
        source = volume["secret"]
        data = (await _object(cluster, "secret", source["secretName"])).get("data", {})
        held = {key: base64.b64decode(text) for key, text in data.items()}
    else:
        return None
    items = source.get("items")
    return held if items is None else {item["path"]: held[item["key"]] for item in items}


def _moved(value: str, places: Mapping[str, str]) -> str:
    for mounted, place in places.items():
        if value.startswith(f"{mounted}/"):
            return place + value.removeprefix(mounted)
    return value


async def _object(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    result = (await cluster.kubectl("get", kind, name, "--namespace", NAMESPACE, "-o", "json")).check()
    found = json.loads(result.stdout)
    if not isinstance(found, dict):
        raise HarnessError(f"{kind} {name}: no object")
    return found
