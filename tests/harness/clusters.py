"""What a test sees of a cluster, whichever its size."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tests.harness import tools
from tests.harness.agent_pod import AgentPod, PodOf
from tests.harness.commands import Result, execute, kubectl
from tests.harness.isolation import TABLE

Size = Literal["light", "full"]


@dataclass
class Cluster:
    """A running cluster. `url` is where its agents (and, if light, everybody) reach the API server."""

    name: str
    size: Size
    directory: Path
    url: str
    ca_file: Path
    admin_kubeconfig: Path
    pids: dict[str, int]
    """Process ids by role, as seen from the test run."""
    hub_host: str
    """The address under which this cluster's agents reach the hub."""
    command_prefix: list[str] = field(default_factory=list)
    """Put before a command that shall run inside the cluster's network."""
    pods: list[AgentPod] = field(default_factory=list)

    alive: ClassVar[list["Cluster"]] = []
    """The clusters of this process, so that a hub started later listens where they need it."""

    async def kubectl(
        self,
        *args: str,
        stdin: bytes | str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,  # noqa: ASYNC109 - passed on to the process runner
    ) -> Result:
        """kubectl as the cluster's administrator, inside its network; for set-up and for comparison only."""
        prefix = self.command_prefix
        return await kubectl(self.admin_kubeconfig, *args, stdin=stdin, env=env, timeout=timeout, prefix=prefix)

    async def apply(self, manifest: str) -> Result:
        """Apply YAML or JSON; raises HarnessError when that fails."""
        return (await self.kubectl("apply", "-f", "-", stdin=manifest)).check()

    async def allow_hub(self, port: int) -> None:
        """Let the cluster's network dial this port of `hub_host`; a light cluster has no network of its own."""
        if self.command_prefix:
            element = ["nft", "add", "element", "inet", TABLE, "hub", f"{{ {port} }}"]
            (await execute([*self.command_prefix, *element], timeout=15)).check()

    async def import_image(self, archive: Path) -> None:
        """Give the node of a full cluster an image, an OCI archive. Raises HarnessError."""
        inside = ["nsenter", f"--target={self.pids['init']}", "--mount", "--net", "--"]
        store = ["ctr", "--address", str(self.directory / "containerd.sock"), "--namespace", "k8s.io"]
        (await execute([*inside, *store, "images", "import", str(archive)], timeout=60)).check()

    async def agent_pod(self, directory: Path, *, apply: bool = True, of: PodOf | None = None) -> AgentPod:
        """What an agent's pod would have, laid out in `directory`; its tokens are rotated until the cluster ends.

        `apply` False: its rights are there already. `of`: whose pod, the Deployment's when None.
        """
        pod = await AgentPod.create(self, directory, apply=apply, of=of)
        self.pods.append(pod)
        return pod

    def close_pods(self) -> None:
        """Stop rotating tokens."""
        while self.pods:
            self.pods.pop().close()

    @staticmethod
    def manifests() -> list[Path]:
        """What `deploy/` gives an agent: namespace, its ServiceAccount and its rights."""
        directory = tools.REPOSITORY / "deploy" / "agent"
        return [directory / name for name in ("00-namespace.yaml", "10-rbac.yaml", "20-cluster-admins.yaml")]
