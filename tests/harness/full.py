"""Full clusters: a real node with real pods, in namespaces that end with their first process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.harness import cgroups, inside, kwok, tools
from tests.harness.children import Child, until
from tests.harness.clusters import Cluster
from tests.harness.failures import HarnessError, MissingTool
from tests.harness.isolation import UPLINK
from tests.harness.node import NODE_ADDRESS
from tests.harness.runs import Run
from tests.kube import namespaces

_READY_S: Final = 180.0
_STOP_S: Final = 20.0

# Enters the groups named before `--`, then becomes what follows; a shell, because it must be small and exec at once.
# It runs inside already: a process that stayed behind outside could not be moved from there, and a v2 group that has
# one hands no controllers on.
_ENTER: Final = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'


class Enclosure:
    """The namespaces of one full cluster, from outside."""

    def __init__(self, directory: Path, number: int) -> None:
        run = Run.current()
        subnet = run.subnets.take()
        third, fourth = divmod(subnet * 4, 256)
        self.directory = directory
        self.hub_host = f"10.213.{third}.{fourth + 1}"
        self.address = f"10.213.{third}.{fourth + 2}"
        self._link = f"{run.name}-{number}"
        self._groups = cgroups.create(run.directory, f"riata-{run.name}-{directory.name}")
        self.first_pid = 0
        self._child = self._start()

    def _start(self) -> Child:
        given = {"address": f"{self.address}/30", "hub_host": self.hub_host}
        (self.directory / "inside.json").write_text(json.dumps(given))
        command = ["unshare", *namespaces.OUTER, "sh", "-c", _ENTER, "sh", *map(str, self._groups), "--"]
        command += ["unshare", "--cgroup", sys.executable, "-m", "tests.harness.inside", str(self.directory)]
        environment = {**os.environ, "PYTHONPATH": str(tools.REPOSITORY)}
        return Child.start("inside", command, log=self.directory / "inside.log", env=environment)

    async def connect(self) -> None:
        """Wait for the first process and give its network an uplink. Raises HarnessError."""
        await until(self._find_first, what="the namespaces", timeout_s=20, alive=[self._child])
        _ip("link", "add", self._link, "type", "veth", "peer", "name", UPLINK, "netns", str(self.first_pid))
        _ip("address", "add", f"{self.hub_host}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")

    async def ready(self) -> dict[str, int]:
        """Wait until the cluster is up. Returns process ids by role, as seen from outside."""
        ready_file = self.directory / "ready.json"
        await until(ready_file.exists, what="the full cluster", timeout_s=_READY_S, alive=[self._child], poll_s=0.1)
        roles: dict[str, int] = json.loads(ready_file.read_text())
        outside = _outside_pids(self.first_pid)
        return {"init": self.first_pid, **{role: outside[pid] for role, pid in roles.items()}}

    async def stop(self) -> None:
        """End everything inside at once; what it kept is thrown away anyway."""
        if self.first_pid and self._child.returncode is None:
            os.kill(self.first_pid, signal.SIGKILL)
        if await self._child.wait(_STOP_S) is None:
            await self._child.stop(1)
        # The kernel takes the link away with the network, but only some time after the last process.
        subprocess.run(["ip", "link", "delete", self._link], capture_output=True, timeout=10, check=False)
        for group in self._groups:
            cgroups.remove(group)

    def _find_first(self) -> bool:
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children")
        try:
            if Path(f"/proc/{self._child.pid}/comm").read_text().strip() != "unshare":
                return False
            found = children.read_text().split()
        except OSError:
            return False
        self.first_pid = int(found[0]) if found else 0
        return bool(found)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        raise HarnessError(f"ip {' '.join(arguments)}: {done.stderr}")


def _outside_pids(first: int) -> dict[int, int]:
    """Process ids of the pid namespace of `first`: inside → outside."""
    wanted = os.readlink(f"/proc/{first}/ns/pid")
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "ns" / "pid") != wanted:
                continue
            line = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:"))
        except OSError:
            continue
        found[int(line.split()[-1])] = int(entry.name)
    return found


@asynccontextmanager
async def full(name: str = "full", *, kwok_nodes: int = 0, kwok_pods: int = 0) -> AsyncIterator[Cluster]:
    """A full cluster behind NAT: its agents reach the hub at `hub_host`, nobody reaches it.

    Needs root and the packages of `make node-packages`. Raises HarnessError, MissingTool.
    """
    obstacle = tools.full_obstacle(kwok=bool(kwok_nodes))
    if obstacle:
        raise MissingTool(obstacle)
    directory = Run.current().subdirectory(name)
    enclosure = Enclosure(directory, Run.current().next_number())
    cluster: Cluster | None = None
    simulator: Child | None = None
    try:
        await enclosure.connect()
        pids = await enclosure.ready()
        cluster = Cluster(
            name=name,
            size="full",
            directory=directory,
            url=f"https://{NODE_ADDRESS}:{inside.API_PORT}",
            ca_file=directory / "pki" / "ca.crt",
            admin_kubeconfig=directory / "admin.kubeconfig",
            pids=pids,
            hub_host=enclosure.hub_host,
            command_prefix=["nsenter", f"--net=/proc/{enclosure.first_pid}/ns/net", "--"],
        )
        if kwok_nodes:
            simulator = await kwok.start(cluster, nodes=kwok_nodes, pods=kwok_pods, node_ip=NODE_ADDRESS)
        Cluster.alive.append(cluster)
        yield cluster
    finally:
        if cluster is not None:
            if cluster in Cluster.alive:
                Cluster.alive.remove(cluster)
            cluster.close_pods()
        if simulator is not None:
            await simulator.stop(3)
        await enclosure.stop()
