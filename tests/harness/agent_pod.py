"""What a cluster agent's pod has, for an agent that runs as a plain process: no more, no less.

A directory like the kubelet's projected volume (`token`, `ca.crt`, `namespace`), the two KUBERNETES_SERVICE variables,
and the rights of `deploy/`. The token is a bound one from the TokenRequest API; a thread renews
it as the kubelet would.
"""

import json
import os
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from tests.harness import commands
from tests.harness.children import launched
from tests.harness.failures import HarnessError
from tests.harness.pki import write_private

if TYPE_CHECKING:
    from tests.harness.clusters import Cluster

NAMESPACE: Final = "riata-system"
SERVICE_ACCOUNT: Final = "riata-agent"
TOKEN_LIFE_S: Final = 600  # the shortest that the API server grants
_ROTATE_S: Final = 300.0
_REQUEST_S: Final = 30.0

# The token is bound to this object, as a pod's is. No scheduler takes it, so it never runs.
_POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "riata-agent-", "namespace": NAMESPACE, "labels": {"riata.test/outside": "true"}},
    "spec": {
        "schedulerName": "riata-harness",
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "agent",
                "image": "local/outside:1",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


@dataclass
class AgentPod:
    """An agent's surroundings. `command_prefix` brings its process into the cluster's network."""

    directory: Path
    host: str
    port: int
    hub_host: str
    command_prefix: list[str]
    pod_name: str
    _request: list[str]
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def env(self) -> dict[str, str]:
        """The variables that the kubelet sets in every pod."""
        return {"KUBERNETES_SERVICE_HOST": self.host, "KUBERNETES_SERVICE_PORT": str(self.port)}

    @classmethod
    async def create(cls, cluster: "Cluster", directory: Path, *, apply: bool = True) -> Self:
        """Apply the rights, make the pod object, fetch the first token. Raises HarnessError.

        `apply` False: the rights are there.
        """
        for manifest in cluster.manifests() if apply else ():
            (await cluster.kubectl("apply", "-f", str(manifest))).check()
        draft = _POD if apply else {**_POD, "metadata": {**_POD["metadata"], "ownerReferences": await _owner(cluster)}}
        created = (await cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(draft))).check()
        metadata = json.loads(created.stdout)["metadata"]
        request = commands.kubectl_command(
            cluster.admin_kubeconfig,
            *("create", "token", SERVICE_ACCOUNT, "--namespace", NAMESPACE, f"--duration={TOKEN_LIFE_S}s"),
            *("--bound-object-kind=Pod", f"--bound-object-name={metadata['name']}"),
            f"--bound-object-uid={metadata['uid']}",
            prefix=cluster.command_prefix,
        )
        parts = urlsplit(cluster.url)
        directory.mkdir(parents=True, exist_ok=True)
        pod = cls(
            directory=directory,
            host=parts.hostname or "",
            port=parts.port or 443,
            hub_host=cluster.hub_host,
            command_prefix=list(cluster.command_prefix),
            pod_name=metadata["name"],
            _request=request,
        )
        pod.ca_file.write_bytes(cluster.ca_file.read_bytes())
        (directory / "namespace").write_text(NAMESPACE)
        pod.rotate()
        pod._thread = threading.Thread(target=pod._rotate_on, name=f"token of {metadata['name']}", daemon=True)
        pod._thread.start()
        return pod

    def rotate(self) -> str:
        """Put a fresh token in place, atomically, as the kubelet does. Returns it; blocks for a moment."""
        command = launched(self._request)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_REQUEST_S, check=False)
        if done.returncode != 0:
            raise HarnessError(f"no token: {done.stderr}")
        token = done.stdout.strip()
        partial = self.directory / f".token.{threading.get_ident()}"
        write_private(partial, token.encode())
        os.replace(partial, self.token_file)
        return token

    def _rotate_on(self) -> None:
        while not self._stopped.wait(_ROTATE_S):
            try:
                self.rotate()
            except (HarnessError, subprocess.TimeoutExpired):
                continue  # the cluster may be down on purpose; half of the token's life is left

    def close(self) -> None:
        """Stop rotating."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=_REQUEST_S)


async def _owner(cluster: "Cluster") -> list[dict[str, str]]:
    """Whose the pod is: the Deployment's, as through a ReplicaSet."""
    arguments = ("get", "deployment", SERVICE_ACCOUNT, "--namespace", NAMESPACE, "-o", "jsonpath={.metadata.uid}")
    uid = (await cluster.kubectl(*arguments)).check().stdout
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "name": SERVICE_ACCOUNT, "uid": uid}]
