"""Runs riata-agent as a process with what a pod has, and nothing else."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.harness import tools
from tests.harness.agent_pod import AgentPod
from tests.harness.children import RUN_VARIABLE, Child
from tests.harness.clusters import Cluster
from tests.harness.commands import Result, execute
from tests.harness.failures import HarnessError, tail
from tests.harness.hubs import Hub, wait_ready_file
from tests.harness.pki import write_private
from tests.harness.runs import Run

_READY_S: Final = 60.0
_CONNECTED_S: Final = 60.0


@dataclass
class Agent:
    """A running agent of `cluster` (its name on the hub)."""

    cluster: str
    pod: AgentPod
    directory: Path
    hub: Hub
    options: list[str]
    child: Child
    health_url: str = ""
    metrics_url: str = ""
    environment: Mapping[str, str] | None = None
    """What its applied manifest gives it; None: it is told by options."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """Variables that name its proxies."""

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def log(self) -> Path:
        return self.child.log

    def kill(self) -> None:
        """SIGKILL, reaped on return."""
        self.child.kill()

    async def stop(self) -> None:
        """SIGTERM, and its end awaited."""
        await self.child.stop(10)

    async def restart(self) -> None:
        """Start it anew (after kill or stop) and wait until the hub sees it."""
        await self.child.stop(10)
        await self._start()
        await self.connected()

    async def doctor(self, *options: str, variables: Mapping[str, str] | None = None) -> Result:
        """`riata-agent doctor` beside the agent, with its settings and in its surroundings; `options` and `variables`
        win."""
        command = _command(self.directory, self.pod, self.hub, "doctor", [*self.options, *options], self.environment)
        command += ["--health-listen", urlsplit(self.health_url).netloc]
        surroundings = {**_environment(self.pod), **(self.environment or {}), **(variables or {})}
        return await execute(["env", "-i", *(f"{k}={v}" for k, v in surroundings.items()), *command])

    async def connected(self, timeout_s: float = _CONNECTED_S) -> None:
        """Wait until the hub calls the cluster connected. Raises HarnessError with the agent's log."""
        await self._until(lambda: self.hub.api.connected(self.cluster), timeout_s)

    async def in_list(self, agent_id: str, timeout_s: float = _CONNECTED_S) -> None:
        """The same for this agent, as the hub's list calls it: a node agent connects no cluster by itself."""

        async def listed() -> bool:
            items = (await self.hub.api.call("GET", "/v1/agents"))["items"]
            return any(each["id"] == agent_id and each["connected"] for each in items)

        await self._until(listed, timeout_s)

    async def _until(self, is_there: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not await is_there():
            self.child.check()
            if loop.time() > deadline:
                raise HarnessError(f"{self.cluster} not connected within {timeout_s:g} s\n{tail(self.log)}")
            await asyncio.sleep(0.05)

    async def _start(self) -> None:
        ready_file = self.directory / "ready.json"
        ready_file.unlink(missing_ok=True)
        self.child = _spawn(
            self.directory, self.pod, self.hub, ready_file, self.options, self.environment, self.proxies
        )
        ready = await wait_ready_file(ready_file, self.child, _READY_S)
        self.health_url, self.metrics_url = ready["health_url"], ready["metrics_url"]


async def started(
    cluster: str,
    pod: AgentPod,
    directory: Path,
    hub: Hub,
    options: Sequence[str],
    environment: Mapping[str, str],
    *,
    mode: str = "cluster",
) -> Agent:
    """An agent that has its settings from its environment, up and perhaps not connected yet. Stop it."""
    ready_file = directory / "ready.json"
    child = _spawn(directory, pod, hub, ready_file, options, environment, mode=mode)
    running = Agent(cluster, pod, directory, hub, list(options), child, environment=environment)
    ready = await wait_ready_file(ready_file, child, _READY_S)
    running.health_url, running.metrics_url = ready["health_url"], ready["metrics_url"]
    return running


def _spawn(
    directory: Path,
    pod: AgentPod,
    hub: Hub,
    ready_file: Path,
    options: Sequence[str],
    settings: Mapping[str, str] | None = None,
    proxies: Mapping[str, str] | None = None,
    mode: str = "cluster",
) -> Child:
    command = _command(directory, pod, hub, mode, options, settings)
    command += ["--ready-file", str(ready_file)]
    environment = {**_environment(pod), **(settings or {}), **(proxies or {})}
    return Child.start("riata-agent", command, log=directory / "agent.log", env=environment, cwd=directory)


def _environment(pod: AgentPod) -> dict[str, str]:
    """Nothing of the test run's own surroundings: no proxy, no kubeconfig, no home."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", RUN_VARIABLE: Run.current().name, **pod.env}


def _command(
    directory: Path,
    pod: AgentPod,
    hub: Hub,
    mode: str,
    options: Sequence[str],
    settings: Mapping[str, str] | None = None,
) -> list[str]:
    command = [*pod.command_prefix, *tools.console_script("riata-agent", "agent"), mode]
    command += ["--hub-url", hub.url_on(pod.hub_host)]
    if settings is None:
        command += ["--hub-ca-file", str(hub.ca_file), "--hub-ca-pin", hub.ca_pin, *_credential(directory, options)]
    command += ["--kube-ca-file", str(pod.ca_file), "--kube-token-file", str(pod.token_file)]
    command += ["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return [*command, *options]


def _credential(directory: Path, options: Sequence[str]) -> list[str]:
    command: list[str] = []
    if (directory / "agent.token").exists():
        command += ["--token-file", str(directory / "agent.token")]
    else:
        command += ["--join-token-file", str(directory / "join.token")]
        if "--key-secret" not in options:
            command += ["--key-file", str(directory / "agent.key")]
    return command


@asynccontextmanager
async def agent(
    hub: Hub,
    cluster: Cluster,
    *,
    name: str | None = None,
    options: Sequence[str] = (),
    wait: bool = True,
    enrol: bool = False,
    proxies: Mapping[str, str] | None = None,
) -> AsyncIterator[Agent]:
    """An agent of `cluster`, registered on the hub as `name` (the cluster's own when None), connected on return.

    `options` goes to `riata-agent cluster` as it is; `wait=False` returns as soon as the process is up. With `enrol` it
    has a key of its own and joins with a join token, otherwise it shows an agent token.
    """
    registered = name or cluster.name
    directory = Run.current().subdirectory(f"agent-{registered}")
    await cluster.allow_hub(urlsplit(hub.url_on(cluster.hub_host)).port or 443)
    await hub.api.create_cluster(registered)
    if enrol:
        write_private(directory / "join.token", (await hub.api.join_token(registered)).encode())
    else:
        write_private(directory / "agent.token", (await hub.api.agent_token(registered, directory.name)).encode())
    pod = await cluster.agent_pod(directory / "pod")
    ready_file = directory / "ready.json"
    child = _spawn(directory, pod, hub, ready_file, options, None, proxies)
    running = Agent(registered, pod, directory, hub, list(options), child, proxies=proxies or {})
    try:
        ready = await wait_ready_file(ready_file, child, _READY_S)
        running.health_url, running.metrics_url = ready["health_url"], ready["metrics_url"]
        if wait:
            await running.connected()
        yield running
    finally:
        await running.stop()
        pod.close()
