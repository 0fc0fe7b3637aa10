"""What a user of kubectl and a controller see while agents are killed at random: nothing.

`kubectl get -w`, `kubectl get` and `kubectl apply` in loops, objects made with `generateName` (a change that ran twice
leaves two), and a client-go informer, all through the hub, on a real API server. At the end the informer's cache, the
last thing that the watches printed, and the API server hold the same.
"""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import harness
from tests.e2e.hubapi import HubApi
from tests.e2e.kubectl import Kubectl
from tests.e2e.line import Line
from tests.e2e.test_node_agents import NodeAgent, node_agent
from tests.faults import figures
from tests.faults.informer import Informer, informer
from tests.harness import tools
from tests.harness.runs import Run
from tests.kube.toolchain import ToolchainError, find

SECONDS = figures.number("PROOF_SECONDS", 30)

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240 + SECONDS)]

NAMESPACE = "proof"
PAUSE_S = (0.5, 3.0)
"""Between an agent's being back and the next kill."""
DOWN_S = (0.0, 2.0)
"""How long the cluster agent stays away: the node agent carries everything."""
NODE_SHARE = 0.2
"""Of the kills: they hit the fallback."""
OBJECTS = 8
"""That `apply` changes again and again."""
UNKNOWN = "outcome unknown"
GONE_S = 20.0
SHORT = "very short watch"
"""What client-go says of a watch of less than a second without an event, behind which it always lists."""


@dataclass
class Seen:
    """What the loops have seen."""

    kills: int = 0
    node_kills: int = 0
    watches: int = 0
    shown: dict[str, str] = field(default_factory=dict)
    """The objects as the watch printed them last: name, resourceVersion."""
    reads: int = 0
    applied: int = 0
    created: int = 0
    unknown: list[str] = field(default_factory=list)
    """Changes that ended with 504: by P2 nobody knows, and nobody repeats."""
    done: list[str] = field(default_factory=list)
    """Ids of the creations that were told done."""


@dataclass
class Proof:
    """One line: a cluster agent and a node agent of the fallback in one light cluster, and a user."""

    seed: int
    cluster: harness.Cluster
    node: NodeAgent
    kubectl: Kubectl
    seen: Seen = field(default_factory=Seen)

    async def kill(self) -> None:
        """The cluster agent or the node agent, chosen by the seed; it is started again at once, as its pod would be."""
        dice = random.Random(self.seed)
        while True:
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            if dice.random() < NODE_SHARE:
                assert self.node.child is not None
                self.node.child.kill()
                self.seen.node_kills += 1
                await self.node.fetch_token()
                await self.node.start()
                await self.node.connected()
            else:
                self.node.agent.kill()
                self.seen.kills += 1
                await asyncio.sleep(dice.uniform(*DOWN_S))
                await self.node.agent.restart()

    async def watch(self) -> None:
        """`kubectl get -w`, again whenever it ends; it must end well, and behind a whole event."""
        shape = "custom-columns=T:.type,N:.object.metadata.name,V:.object.metadata.resourceVersion"
        while True:
            # kubectl prints the pages of a list, as objects without a name; an hour makes thousands of objects.
            whole = "--chunk-size=0"
            arguments = ("get", "configmaps", "--watch", whole, "--output-watch-events", "--no-headers", "-o", shape)
            async with self.kubectl.running(*arguments) as running:
                self.seen.watches += 1
                self.seen.shown = {}  # it lists first
                while line := await running.line(within=3600):
                    kind, name, version = line.split()
                    self.seen.shown[name] = version
                    if kind == "DELETED":
                        del self.seen.shown[name]
                result = await running.end()
                assert (result.rc, result.stderr) == (0, ""), f"kubectl get -w: {result}"

    async def read(self) -> None:
        while True:
            await self.kubectl("get", "configmaps", "-o", "name")
            self.seen.reads += 1
            await asyncio.sleep(0.3)

    async def apply(self) -> None:
        for number in itertools.count():
            document = config_map({"name": f"applied-{number % OBJECTS}"}, {"number": str(number)})
            result = await self.kubectl("apply", "-f", "-", stdin=document, rc=None)
            self.seen.applied += self._judge(result.rc, result.stderr, f"apply {number}")
            await asyncio.sleep(0.2)

    async def create(self) -> None:
        for number in itertools.count():
            the_id = f"once-{number}"
            document = config_map({"generateName": f"{the_id}-", "labels": {"once": the_id}}, {})
            result = await self.kubectl("create", "-f", "-", stdin=document, rc=None)
            if self._judge(result.rc, result.stderr, f"create {number}"):
                self.seen.done.append(the_id)
            if number % 4 == 3:
                await self.kubectl("delete", "configmap", "-l", f"once={the_id}", "--wait=false", rc=None)
            await asyncio.sleep(0.2)

    def _judge(self, rc: int, stderr: str, what: str) -> bool:
        """Whether a change was told done; it may fail in one way only."""
        if rc == 0:
            return True
        assert UNKNOWN in stderr, f"{what}: {stderr}"
        self.seen.unknown.append(what)
        return False

    async def objects(self) -> list[dict[str, Any]]:
        """What the API server holds, asked without the hub."""
        result = await self.cluster.kubectl("get", "configmaps", "-n", NAMESPACE, "-o", "json")
        found: list[dict[str, Any]] = json.loads(result.check().stdout)["items"]
        return found


def config_map(metadata: dict[str, Any], data: dict[str, str]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).encode()


@pytest_asyncio.fixture(loop_scope="session")
async def proof(light_cluster: harness.Cluster) -> AsyncIterator[Proof]:
    try:
        find()
    except ToolchainError as problem:
        pytest.skip(f"needs Go: {problem}")
    directory = Run.current().subdirectory("proof")
    program = Path(tools.kube("kubectl"))
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(harness.hub(name="hub-proof"))
        admin = hub.admin_token_file.read_text().strip()
        api = HubApi(hub.url, hub.ca_file, admin, program, directory, made=[admin])
        line = Line(hub, api, light_cluster, None, {})
        node = await stack.enter_async_context(node_agent(line, "proof", is_fallback=True))
        await node.connected()
        await light_cluster.kubectl("create", "namespace", NAMESPACE)
        config = await harness.kubeconfig(hub, "proof")
        kubectl = Kubectl(program, config, directory).inside(NAMESPACE)
        yield Proof(figures.seed(), light_cluster, node, kubectl)
        await light_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


async def test_kubectl_and_informers_do_not_notice_that_agents_are_killed(proof: Proof) -> None:
    seen = proof.seen
    kubectl = proof.kubectl
    async with informer(kubectl.kubeconfig, NAMESPACE, kubectl.environment) as controller:
        async with asyncio.TaskGroup() as group:
            loops = (proof.kill, proof.watch, proof.read, proof.apply, proof.create)
            running = {loop.__name__: group.create_task(loop()) for loop in loops}
            await asyncio.sleep(SECONDS)
            for name in ("kill", "apply", "create", "read"):
                running[name].cancel()
            held = await settled(proof, controller)
            running["watch"].cancel()
        looked = await controller.look()
        short = controller.said().count(SHORT)
    twice = [the_id for the_id, count in counted(await proof.objects()).items() if count > 1]
    figures.show(
        "kubectl",
        proof.seed,
        seconds=SECONDS,
        cluster_agent_kills=seen.kills,
        node_agent_kills=seen.node_kills,
        objects=len(held),
        watches_begun=seen.watches,
        informer_watches=looked["watches"],
        informer_lists=looked["lists"],
        informer_errors=looked["errors"],
        informer_short_watches=short,
        reads=seen.reads,
        applied=seen.applied,
        created=len(seen.done),
        unknown=len(seen.unknown),
        executed_twice=len(twice),
    )
    assert twice == []
    assert looked["errors"] == 0, controller.said()[-2000:]
    assert looked["lists"] <= 1 + short, "the informer had to list again"
    assert looked["watches"] > 1, "no watch of the informer was ended"
    assert seen.kills > SECONDS / 10, "too few agents were killed to show anything"


def counted(objects: list[dict[str, Any]]) -> dict[str, int]:
    """How many objects one creation has made."""
    counts: dict[str, int] = {}
    for each in objects:
        the_id = each["metadata"].get("labels", {}).get("once")
        if the_id:
            counts[the_id] = counts.get(the_id, 0) + 1
    return counts


async def settled(proof: Proof, controller: Informer) -> dict[str, str]:
    """Wait until cache, watch and API server hold the same; that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GONE_S
    while True:
        held = {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in await proof.objects()}
        cached = (await controller.look())["cache"]
        if cached == held == proof.seen.shown:
            return held
        assert loop.time() < deadline, (
            f"not the same: API server {len(held)}, informer differs in {different(cached, held)}, "
            f"kubectl get -w in {different(proof.seen.shown, held)}\n{controller.said()[-2000:]}"
        )
        await asyncio.sleep(0.3)


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
