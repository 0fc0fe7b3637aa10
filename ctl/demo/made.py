"""The demo's own clusters: real Kubernetes, made by the test harness of the checkout (docs/adr/0006).

The harness is loaded by name: the wheel has no `tests`, and an import contract forbids a static import of them.
"""

import asyncio
import contextlib
import importlib
import json
import pathlib
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from ctl import errors
from ctl.demo import progress, running

NAMESPACE = "demo"
NODES = 20
"""Simulated nodes of a light cluster: enough to look like one, and there in two seconds."""
_FORM = {"nodeAgents": True}
"""Of the manifests."""

_NAMES = ("alpha", "beta", "gamma")
_CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
_HELLO = (
    "mkdir -p /tmp/www; echo 'hello from riata' > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; "
    "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo hello $n; sleep 1 & wait; done"
)


def harness() -> Any:
    """The module `tests.harness`. CommandError where there is no checkout, or its tools are not built."""
    if not (_CHECKOUT / "tests" / "harness" / "__init__.py").exists():
        raise errors.CommandError(
            "making clusters needs a checkout of riata",
            means="the installed package has no test harness",
            cure="riata demo --kubeconfig FILE uses clusters you have; or clone the repository and run `make demo`",
        )
    if str(_CHECKOUT) not in sys.path:
        sys.path.insert(0, str(_CHECKOUT))
    try:
        loaded = importlib.import_module("tests.harness")
    except ImportError as exc:
        raise errors.CommandError(f"the harness of {_CHECKOUT} cannot be loaded: {exc}", cure="make demo") from exc
    obstacle = loaded.light_obstacle(controller_manager=True, scheduler=True, kwok=True)
    if obstacle:  # it names its cure, which depends on where the programs are taken from
        raise errors.CommandError(
            f"no cluster can be made: {obstacle}",
            cure="after that `make demo`; or riata demo --kubeconfig FILE, which uses clusters you have",
        )
    return loaded


@contextlib.asynccontextmanager
async def demo(
    directory: pathlib.Path, steps: progress.Steps, *, keep: bool, light: bool
) -> AsyncIterator[running.Running]:
    """Three clusters with workloads, a hub, and for each a cluster agent and a node agent of the fallback, connected.

    Each way in is the one of docs/operate/join.md: a cluster at the hub, its manifest applied, and agents with what
    that gives them (ServiceAccount, Secrets, ConfigMaps, tokens of their pods). Only the processes are ours: no image
    has to be built for a demo.

    `keep`: their logs stay behind. `light`: no full cluster, even where one can be made.
    """
    loaded = harness()
    run = importlib.import_module("tests.harness.runs").Run.current()
    if keep:
        run.keep_logs = True
        steps.note(f"logs will be kept in {run.directory.parent / 'logs' / run.directory.name}")
    obstacle = "as --light says" if light else loaded.full_obstacle()
    steps.note(
        f"three light clusters: API servers with simulated nodes, so no exec and no logs ({obstacle})"
        if obstacle
        else "one full cluster with a real node and real pods, two light ones with simulated nodes"
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_failures(loaded))
        clusters = await _clusters(stack, steps, loaded, full=not obstacle)
        with steps.step("hub"):
            hub = await stack.enter_async_context(loaded.hub())
        pids = {"hub": hub.pid} | await _agents(stack, steps, loaded, hub, clusters)
        for cluster in clusters:
            pids |= {f"{cluster.name}/{role}": pid for role, pid in cluster.pids.items()}
        yield running.Running(
            hub_url=hub.url,
            ca_file=hub.ca_file,
            ca_pin=hub.ca_pin,
            admin_token_file=hub.admin_token_file,
            metrics_url=hub.metrics_url,
            directory=directory,
            clusters=tuple(_described(cluster) for cluster in clusters),
            pids=pids,
            kubectl=pathlib.Path(importlib.import_module("tests.harness.tools").kube("kubectl")),
        )


@contextlib.contextmanager
def _failures(loaded: Any) -> Iterator[None]:
    """The harness's own error is a CommandError outside."""
    try:
        yield
    except loaded.HarnessError as exc:
        raise errors.CommandError(f"the demo failed: {exc}", cure="repeat it with --keep and look at the logs") from exc


def _described(cluster: Any) -> running.DemoCluster:
    if cluster.size == "light":
        return running.DemoCluster(cluster.name, "light", NAMESPACE, f"{NODES} simulated nodes")
    network = f"/proc/{cluster.pids['init']}/ns/net"
    return running.DemoCluster(cluster.name, "full", NAMESPACE, "a real node with real pods", network)


async def _clusters(stack: contextlib.AsyncExitStack, steps: progress.Steps, loaded: Any, *, full: bool) -> list[Any]:
    """The clusters, made side by side; what was entered is left again by `stack`, also when one of them fails."""
    made: dict[str, Any] = {}

    async def make(name: str, *, whole: bool) -> None:
        with steps.step(f"{name}: {'full' if whole else 'light'} cluster"):
            context = loaded.full(name) if whole else _light(loaded, name)
            made[name] = await stack.enter_async_context(context)
        with steps.step(f"{name}: workloads"):
            await _workloads(made[name])

    await _side_by_side([make(name, whole=full and name == _NAMES[0]) for name in _NAMES])
    return [made[name] for name in _NAMES]


async def _agents(
    stack: contextlib.AsyncExitStack, steps: progress.Steps, loaded: Any, hub: Any, clusters: list[Any]
) -> dict[str, int]:
    """A cluster agent and a node agent for each cluster; their process ids."""
    pids: dict[str, int] = {}

    async def start(cluster: Any) -> None:
        with steps.step(f"agents of {cluster.name}"):
            agent = await stack.enter_async_context(loaded.applied_agent(hub, cluster, form=_FORM))
            node_agent = await stack.enter_async_context(loaded.applied_node_agent(hub, cluster))
        pids.update({f"{cluster.name}/agent": agent.pid, f"{cluster.name}/node-agent": node_agent.pid})

    await _side_by_side([start(cluster) for cluster in clusters])
    return pids


async def _side_by_side(work: list[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed


def _light(loaded: Any, name: str) -> Any:
    return loaded.light(name, controller_manager=True, scheduler=True, kwok_nodes=NODES)


async def _workloads(cluster: Any) -> None:
    """A namespace with the Deployment `hello`, ready."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await cluster.apply(json.dumps(namespace))
    await cluster.apply(json.dumps(_deployment(real=cluster.size == "full")))
    arguments = ("--namespace", NAMESPACE, "rollout", "status", "deployment/hello", "--timeout=60s")
    (await cluster.kubectl(*arguments, timeout=70)).check()


def _deployment(*, real: bool) -> dict[str, Any]:
    labels = {"app": "hello"}
    image = "docker.io/local/box:1" if real else "local/simulated:1"
    container = {"name": "hello", "image": image, "imagePullPolicy": "Never", "command": ["sh", "-c", _HELLO]}
    pod: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 1}
    if not real:
        pod["tolerations"] = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "hello", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1 if real else 6,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
