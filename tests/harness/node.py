"""One real node: containerd, runc, CNI, kubelet. Runs inside the namespaces of a full cluster only."""

import json
from pathlib import Path
from typing import Any, Final

from tests.harness import images, pki, tools
from tests.harness.children import Child, until
from tests.harness.commands import execute
from tests.harness.control_plane import ControlPlane

NODE: Final = "node-1"
NODE_ADDRESS: Final = "10.88.0.1"
POD_RANGE: Final = "10.89.0.0/24"
BRIDGE: Final = "cni0"
KUBELET_PORT: Final = 10250
_SOCKET_S: Final = 30.0
_READY_S: Final = 90.0


class Node:
    """The programs of the node; `children` by role."""

    def __init__(self, plane: ControlPlane, authority: pki.Authority, directory: Path) -> None:
        self._plane = plane
        self._authority = authority
        self._directory = directory
        self.children: dict[str, Child] = {}

    @property
    def _socket(self) -> Path:
        return self._directory / "containerd.sock"

    async def start_runtime(self) -> None:
        """containerd with its images: needs no API server, so it starts beside it."""
        directory = self._directory
        (directory / "cni").mkdir()
        (directory / "cni" / "10-bridge.conflist").write_text(json.dumps(_network(directory)))
        (directory / "containerd.toml").write_text(_containerd(directory))
        command = ["containerd", "--config", str(directory / "containerd.toml"), "--log-level", "warn"]
        self.children["containerd"] = Child.start("containerd", command, log=directory / "containerd.log")
        running = list(self.children.values())
        await until(self._socket.exists, what="containerd's socket", timeout_s=_SOCKET_S, alive=running)
        for archive in images.write_archives(directory):
            command = ["ctr", "--address", str(self._socket), "--namespace", "k8s.io", "images", "import", str(archive)]
            (await execute(command, timeout=_SOCKET_S)).check()

    async def start_kubelet(self) -> None:
        """The kubelet; the node is Ready on return. Raises HarnessError."""
        directory = self._directory
        hosts = [NODE, "localhost", "127.0.0.1", NODE_ADDRESS]
        self._authority.leaf("kubelet", f"system:node:{NODE}", organizations=["system:nodes"], hosts=hosts)
        kubeconfig = self._plane.identity(self._authority, "node", f"system:node:{NODE}", "system:nodes")
        (directory / "resolv.conf").write_text("")
        (directory / "kubelet.json").write_text(json.dumps(self._kubelet()))
        command = [tools.kube("kubelet"), f"--config={directory / 'kubelet.json'}", f"--kubeconfig={kubeconfig}"]
        command += [f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}", f"--root-dir={directory / 'kubelet'}"]
        command += [f"--cert-dir={directory / 'kubelet-certs'}"]
        self.children["kubelet"] = Child.start("kubelet", command, log=directory / "kubelet.log", cwd=directory)
        await self._ready()

    async def _ready(self) -> None:
        arguments = ["wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=5s"]
        command = [tools.kube("kubectl"), "--kubeconfig", str(self._plane.admin_kubeconfig), *arguments]
        for _ in range(int(_READY_S)):
            for child in self.children.values():
                child.check()
            result = await execute(command, timeout=30)
            if result.rc == 0:
                return
        result.check()

    def _kubelet(self) -> dict[str, Any]:
        keys = self._plane.ca.parent
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "0.0.0.0",
            "port": KUBELET_PORT,
            "healthzPort": 0,
            "authentication": {
                "x509": {"clientCAFile": str(self._plane.ca)},
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(keys / "kubelet.crt"),
            "tlsPrivateKeyFile": str(keys / "kubelet.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "resolvConf": str(self._directory / "resolv.conf"),
            "podLogsDir": str(self._directory / "podlogs"),
            "volumePluginDir": str(self._directory / "volume-plugins"),
            "serializeImagePulls": False,
            "imageGCHighThresholdPercent": 100,
            # A busy or full disk of the test machine must not evict the test's pods.
            "evictionHard": {
                "memory.available": "1Mi",
                "nodefs.available": "0%",
                "imagefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.inodesFree": "0%",
            },
        }


def _network(directory: Path) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        "dataDir": str(directory / "cni-data"),
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _containerd(directory: Path) -> str:
    return f"""version = 2
root = "{directory}/containerd-root"
state = "{directory}/containerd-state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{tools.CNI_BIN}"
    conf_dir = "{directory}/cni"
"""
