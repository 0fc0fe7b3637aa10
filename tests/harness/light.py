"""Light clusters: etcd and a kube-apiserver on loopback, without any privilege."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness import kwok, tools
from tests.harness.clusters import Cluster
from tests.harness.control_plane import ControlPlane, Settings, started
from tests.harness.failures import MissingTool
from tests.harness.runs import Run


def _plane(directory: Path, *, controller_manager: bool, scheduler: bool) -> ControlPlane:
    take = Run.current().ports.take
    return ControlPlane(
        Settings(
            directory=directory,
            address="127.0.0.1",
            port=take(),
            etcd_ports=(take(), take()),
            controller_manager_port=take(),
            scheduler_port=take(),
            controller_manager=controller_manager,
            scheduler=scheduler,
        )
    )


@asynccontextmanager
async def light(
    name: str = "light",
    *,
    controller_manager: bool = False,
    scheduler: bool = False,
    kwok_nodes: int = 0,
    kwok_pods: int = 0,
) -> AsyncIterator[Cluster]:
    """A light cluster: RBAC, ServiceAccount tokens, aggregation; `kwok_nodes` simulated nodes with `kwok_pods` pods.

    Raises HarnessError when it does not come up, MissingTool when a program for it is not there. Entering and leaving
    may happen in different tasks and loops.
    """
    obstacle = tools.light_obstacle(controller_manager=controller_manager, scheduler=scheduler, kwok=bool(kwok_nodes))
    if obstacle:
        raise MissingTool(obstacle)
    run = Run.current()
    plane = await started(
        lambda: _plane(run.subdirectory(name), controller_manager=controller_manager, scheduler=scheduler)
    )
    cluster = Cluster(
        name=name,
        size="light",
        directory=plane.settings.directory,
        url=plane.url,
        ca_file=plane.ca,
        admin_kubeconfig=plane.admin_kubeconfig,
        pids={role: child.pid for role, child in plane.children.items()},
        hub_host="127.0.0.1",
    )
    simulator = None
    try:
        if kwok_nodes:
            simulator = await kwok.start(cluster, nodes=kwok_nodes, pods=kwok_pods)
        Cluster.alive.append(cluster)
        yield cluster
    finally:
        if cluster in Cluster.alive:
            Cluster.alive.remove(cluster)
        cluster.close_pods()
        if simulator is not None:
            await simulator.stop(3)
        await plane.stop()
