"""Simulated nodes and pods by the thousand: kwok plays their kubelet in any cluster."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.harness import tools
from tests.harness.children import Child
from tests.harness.commands import execute
from tests.harness.runs import Run

if TYPE_CHECKING:
    from tests.harness.clusters import Cluster

_STAGES: Final = Path(__file__).with_name("stages.yaml")
ANNOTATION: Final = ("kwok.x-k8s.io/node", "fake")
_CREATE_S: Final = 300.0


async def start(cluster: "Cluster", *, nodes: int, pods: int = 0, node_ip: str = "127.0.0.1") -> Child:
    """Start kwok for `cluster`, make nodes, and pods in the namespace `simulated`; all are Ready on return."""
    directory = cluster.directory
    serving = directory / "pki" / "apiserver"
    port = Run.current().ports.take()
    command = [
        *cluster.command_prefix,
        tools.kube("kwok"),
        f"--config={_STAGES}",
        f"--kubeconfig={cluster.admin_kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={'='.join(ANNOTATION)}",
        "--node-lease-duration-seconds=40",
        "--cidr=10.90.0.0/16",
        f"--node-ip={node_ip}",
        f"--node-port={port}",
        f"--server-address={node_ip}:{port}",
        f"--tls-cert-file={serving.with_suffix('.crt')}",
        f"--tls-private-key-file={serving.with_suffix('.key')}",
    ]
    child = Child.start("kwok", command, log=directory / "kwok.log", cwd=directory)
    cluster.pids["kwok"] = child.pid
    try:
        maker = [sys.executable, "-m", "tests.harness.fake_nodes", str(cluster.admin_kubeconfig), str(nodes), str(pods)]
        if "kube-controller-manager" in cluster.pids:
            maker.append("--accounts")  # ServiceAccounts are made, so pods must wait for theirs
        environment = {"PYTHONPATH": str(tools.REPOSITORY)}
        (await execute([*cluster.command_prefix, *maker], env=environment, timeout=_CREATE_S)).check()
        child.check()
    except BaseException:
        await child.stop(3)
        raise
    return child
