"""The first process of a full cluster's namespaces: `python -m tests.harness.inside DIRECTORY`.

Reads `inside.json` there, sets the namespaces up, starts control plane and node, writes `ready.json` (process ids by
role, as seen in here) and then only reaps. When it dies, the kernel ends everything else in its pid namespace; that is
how a full cluster stops.
"""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

from tests.harness import isolation, metrics_source
from tests.harness.children import Child
from tests.harness.control_plane import ControlPlane, Settings
from tests.harness.failures import HarnessError
from tests.harness.node import NODE_ADDRESS, Node

API_PORT: Final = 6443
_UPLINK_S: Final = 20.0


def _settings(directory: Path) -> Settings:
    return Settings(
        directory=directory,
        address="0.0.0.0",
        advertise=NODE_ADDRESS,
        extra_hosts=(NODE_ADDRESS, f"{metrics_source.SERVICE}.{metrics_source.NAMESPACE}.svc"),
        port=API_PORT,
        etcd_ports=(2379, 2380),
        controller_manager_port=10257,
        scheduler_port=10259,
        controller_manager=True,
        scheduler=True,
    )


async def _wait_uplink() -> None:
    async with asyncio.timeout(_UPLINK_S):
        while isolation.UPLINK not in [name for _, name in socket.if_nameindex()]:  # noqa: ASYNC110 - the kernel's state
            await asyncio.sleep(0.02)


async def _supervise(children: dict[str, Child]) -> None:
    """Reap what was orphaned (containers' shims); end when a component does."""
    known = {child.pid for child in children.values()}
    while True:
        for child in children.values():
            child.check()
        # WNOWAIT: look first, our own children are reaped by their owners.
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is not None and found.si_pid not in known:
            os.waitpid(found.si_pid, 0)
            continue
        await asyncio.sleep(0.2)


async def run(directory: Path) -> None:
    """Bring the cluster up and keep it. Raises HarnessError when a component ends."""
    given: dict[str, Any] = json.loads((directory / "inside.json").read_text())
    isolation.private_directories(directory)
    isolation.private_cgroups()
    await _wait_uplink()
    isolation.network(address=given["address"], hub_host=given["hub_host"], api_port=API_PORT)
    plane = ControlPlane(_settings(directory))
    authority = plane.write_credentials()
    node = Node(plane, authority, directory)
    await asyncio.gather(plane.start(), node.start_runtime())
    metrics = Child.start(
        "metrics-source",
        [sys.executable, "-m", "tests.harness.metrics_source", str(directory)],
        log=directory / "metrics-source.log",
    )
    await plane.kubectl("apply", "-f", "-", stdin=metrics_source.manifests(plane))
    await node.start_kubelet()
    # Until it is available, discovery complains about it to every client.
    await plane.kubectl("wait", "--for=condition=Available", f"apiservice/v1beta1.{metrics_source.GROUP}")
    children = {**plane.children, **node.children, metrics.name: metrics}
    partial = directory / "ready.json.partial"
    partial.write_text(json.dumps({role: child.pid for role, child in children.items()}))
    partial.rename(directory / "ready.json")
    await _supervise(children)


if __name__ == "__main__":
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except HarnessError as error:
        sys.exit(f"the cluster ends: {error}")
