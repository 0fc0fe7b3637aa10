"""What an agent's pod has, for an agent that runs as a plain process: no more, no less.

A directory like the kubelet's projected volume (`token`, `ca.crt`, `namespace`), the two KUBERNETES_SERVICE variables,
and the rights of `deploy/`. The tokens are bound ones from the TokenRequest API; a thread renews
them as the kubelet would.
"""

import copy
import json
import os
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from tests.harness import commands, images
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


@dataclass(frozen=True)
class PodOf:
    """Whose pod it is, of those that the manifest makes."""

    kind: str = "deployment"
    name: str = SERVICE_ACCOUNT
    """Its ServiceAccount is called the same."""
    node: str = ""
    """Where it is, so that its tokens name the node."""
    audience: str = ""
    """Of the token for the hub, in `hub/token`; empty: there is none."""


# The token is bound to this object, as a pod's is. No scheduler takes it, so it never runs; where a node is named, that
# kubelet runs something that waits.
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
                "image": images.BOX,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"],
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
    _requests: dict[str, list[str]]
    """File of each token → the command that fetches one."""
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
    async def create(cls, cluster: "Cluster", directory: Path, *, apply: bool = True, of: PodOf | None = None) -> Self:
        """Apply the rights, make the pod object, fetch the first tokens. Raises HarnessError.

        `apply` False: the rights are there. `of`: whose pod it is then; the Deployment's when None.
        """
        for manifest in cluster.manifests() if apply else ():
            (await cluster.kubectl("apply", "-f", str(manifest))).check()
        whose = of or PodOf()
        draft = await _draft(cluster, whose, is_owned=not apply)
        created = (await cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(draft))).check()
        metadata = json.loads(created.stdout)["metadata"]
        request = commands.kubectl_command(
            cluster.admin_kubeconfig,
            *("create", "token", whose.name, "--namespace", NAMESPACE, f"--duration={TOKEN_LIFE_S}s"),
            *("--bound-object-kind=Pod", f"--bound-object-name={metadata['name']}"),
            f"--bound-object-uid={metadata['uid']}",
            prefix=cluster.command_prefix,
        )
        requests = {"token": request}
        if whose.audience:
            requests["hub/token"] = [*request, f"--audience={whose.audience}"]
        parts = urlsplit(cluster.url)
        directory.mkdir(parents=True, exist_ok=True)
        pod = cls(
            directory=directory,
            host=parts.hostname or "",
            port=parts.port or 443,
            hub_host=cluster.hub_host,
            command_prefix=list(cluster.command_prefix),
            pod_name=metadata["name"],
            _requests=requests,
        )
        pod.ca_file.write_bytes(cluster.ca_file.read_bytes())
        (directory / "namespace").write_text(NAMESPACE)
        pod.rotate()
        pod._thread = threading.Thread(target=pod._rotate_on, name=f"token of {metadata['name']}", daemon=True)
        pod._thread.start()
        return pod

    def rotate(self) -> str:
        """Put fresh tokens in place, each atomically, as the kubelet does. Returns the one for the API server; blocks
        for a moment."""
        for file, request in self._requests.items():
            self._fetch(self.directory / file, request)
        return self.token_file.read_text()

    def _fetch(self, file: Path, request: list[str]) -> None:
        done = subprocess.run(launched(request), capture_output=True, text=True, timeout=_REQUEST_S, check=False)
        if done.returncode != 0:
            raise HarnessError(f"no token: {done.stderr}")
        file.parent.mkdir(exist_ok=True)
        partial = file.with_name(f".token.{threading.get_ident()}")
        write_private(partial, done.stdout.strip().encode())
        os.replace(partial, file)

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


async def _draft(cluster: "Cluster", whose: PodOf, *, is_owned: bool) -> dict[str, Any]:
    """The pod object; `is_owned`: by whom it stands for, as a real one is, perhaps through a ReplicaSet."""
    draft: dict[str, Any] = copy.deepcopy(_POD)
    draft["metadata"]["generateName"] = f"{whose.name}-"
    draft["spec"]["serviceAccountName"] = whose.name
    if whose.node:
        draft["spec"]["nodeName"] = whose.node
    if is_owned:
        arguments = ("get", whose.kind, whose.name, "--namespace", NAMESPACE, "-o", "json")
        owner = json.loads((await cluster.kubectl(*arguments)).check().stdout)
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        draft["metadata"]["ownerReferences"] = [
            {**reference, "name": whose.name, "uid": owner["metadata"]["uid"]},
        ]
    return draft
