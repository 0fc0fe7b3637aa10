"""Node agents with real tokens of a real API server: they join while the cluster agent is down, and obey."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.e2e import measures
from tests.e2e.line import Line
from tests.e2e.test_enrolment import SECRET, status_of
from tests.e2e.waiting import until
from tests.harness import tools
from tests.harness.agents import Agent
from tests.harness.children import RUN_VARIABLE, Child
from tests.harness.hubs import wait_ready_file
from tests.harness.pki import write_private
from tests.harness.runs import Run

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

IDLE_MIB = 45.0
MANIFEST = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: riata-agent-node, namespace: riata-system}
---
apiVersion: v1
kind: Node
metadata: {name: worker-7}
---
apiVersion: v1
kind: Pod
metadata: {name: riata-agent-node-x, namespace: riata-system}
spec:
  nodeName: worker-7
  serviceAccountName: riata-agent-node
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: agent
      image: local/outside:1
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


@dataclass
class NodeAgent:
    """A process `riata-agent node` with the token of its pod."""

    line: Line
    cluster: str
    directory: Path
    agent: Agent
    child: Child | None = None

    @property
    def id(self) -> str:
        return f"{self.cluster}:worker-7"

    async def fetch_token(self, service_account: str = "riata-agent-node") -> str:
        """What the kubelet would project."""
        hub_id = json.loads((self.line.hub.directory / "ready.json").read_text())["hub_id"]
        uid = (await self.line.api.must("GET", f"/v1/clusters/{self.cluster}"))["uid"]
        bound = ["--bound-object-kind=Pod", "--bound-object-name=riata-agent-node-x"]
        made = await self.line.light.kubectl(
            *("create", "token", service_account, "-n", "riata-system", "--duration=600s"),
            *(f"--audience=riata:{hub_id}:{uid}", *bound),
        )
        token = made.check().stdout.strip()
        write_private(self.directory / "token.new", token.encode())
        (self.directory / "token.new").replace(self.directory / "token")
        return token

    async def start(self) -> None:
        hub, pod = self.line.hub, self.agent.pod
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [*tools.console_script("riata-agent", "agent"), "node"]
        command += ["--hub-url", hub.url, "--hub-ca-file", str(hub.ca_file), "--hub-ca-pin", hub.ca_pin]
        command += ["--token-file", str(self.directory / "token")]
        command += ["--kube-ca-file", str(pod.ca_file), "--kube-token-file", str(pod.token_file)]
        command += ["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--ready-file", str(ready)]
        environment = {"LANG": "C.UTF-8", RUN_VARIABLE: Run.current().name, **pod.env}
        log = self.directory / "agent.log"
        self.child = Child.start("riata-agent", command, log=log, env=environment, cwd=self.directory)
        await wait_ready_file(ready, self.child, 20)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(10)

    async def listed(self) -> dict[str, Any] | None:
        items = (await self.line.api.must("GET", "/v1/agents"))["items"]
        return next((item for item in items if item["id"] == self.id), None)

    async def connected(self) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            found = await self.listed()
            return found if found and found["connected"] else None

        return await until(there, what="the node agent to be connected", within=40)  # type: ignore[return-value]

    async def gone(self) -> None:
        async def away() -> bool:
            found = await self.listed()
            return found is None or not found["connected"]

        await until(away, what="the node agent to be gone", every=0.02)


@contextlib.asynccontextmanager
async def node_agent(line: Line, name: str) -> AsyncIterator[NodeAgent]:
    """A cluster agent with its key in a Secret, which registers the issuer, and a node agent beside it."""
    await line.light.kubectl("delete", "secret", "riata-agent-key", "-n", "riata-system", "--ignore-not-found")
    async with harness.agent(line.hub, line.light, name=name, enrol=True, wait=False,
                             options=["--key-secret", "riata-system/riata-agent-key"]) as agent:  # fmt: skip
        await line.light.apply(SECRET)
        await line.light.apply(MANIFEST)
        await agent.restart()
        directory = Run.current().subdirectory(f"node-{name}")
        node = NodeAgent(line, name, directory, agent)
        await node.fetch_token()
        await node.start()
        try:
            yield node
        finally:
            await node.stop()


async def test_a_node_agent_joins_by_its_pods_token_also_while_the_cluster_agent_is_down(hub_line: Line) -> None:
    async with node_agent(hub_line, "with-nodes") as node:
        found = await node.connected()
        assert (found["role"], found["node"], found["credential"]) == ("node", "worker-7", "service-account")
        assert node.child is not None
        idle = measures.resident_mib(node.child.pid)
        print(f"\nnode agent: {idle:.1f} MiB idle")
        assert idle <= IDLE_MIB
        assert await status_of(hub_line, "with-nodes") == 200
        node.agent.kill()
        await node.stop()
        await node.gone()
        await node.start()
        await node.connected()
        # No request goes to it: which node agents may serve is the fallback's matter.
        assert await status_of(hub_line, "with-nodes") == 503
        assert (await hub_line.api.must("GET", "/v1/clusters/with-nodes"))["connected"] is False
        await node.agent.restart()
        assert await status_of(hub_line, "with-nodes") == 200


async def test_a_fresher_token_is_taken_over_the_session_and_another_account_is_not(hub_line: Line) -> None:
    async with node_agent(hub_line, "fresh-nodes") as node:
        first = await node.connected()
        before = (node.directory / "token").read_text()
        await asyncio.sleep(1.1)  # so that its claims differ
        assert await node.fetch_token() != before
        await asyncio.sleep(6)  # longer than the agent waits between two looks
        assert "does not take the fresher token" not in (node.directory / "agent.log").read_text()
        again = await node.connected()
        assert again["connectedSince"] == first["connectedSince"]
        await node.stop()
        write_private(node.directory / "token", node.agent.pod.token_file.read_bytes())  # for the API server
        await node.start()
        await asyncio.sleep(1)
        found = await node.listed()
        assert found is None or not found["connected"]
        assert "another hub" in (node.directory / "agent.log").read_text()


async def test_revoking_a_node_cuts_it_within_a_second_until_it_is_readmitted(hub_line: Line) -> None:
    async with node_agent(hub_line, "denied-nodes") as node:
        await node.connected()
        started = time.monotonic()
        await hub_line.api.must("DELETE", f"/v1/agents/{node.id}")
        await node.gone()
        took = time.monotonic() - started
        print(f"\na revoked node agent was gone after {took:.2f} s")
        assert took <= 1.0
        await node.fetch_token()  # a fresh token does not help, and is noticed at once
        await asyncio.sleep(5)
        found = await node.listed()
        assert found is not None
        assert (found["connected"], found["revokedAt"] is not None) == (False, True)
        assert "was revoked at" in (node.directory / "agent.log").read_text()
        await hub_line.api.must("POST", f"/v1/agents/{node.id}/readmit")
        await node.fetch_token()
        await node.connected()
