"""Node agents with real tokens of a real API server: they join while the cluster agent is down, and obey."""

import asyncio
import collections
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests import harness
from tests.e2e import measures
from tests.e2e.entry import Entry
from tests.e2e.line import Line
from tests.e2e.test_enrolment import SECRET, status_of
from tests.e2e.waiting import until
from tests.harness import tools
from tests.harness.agents import Agent
from tests.harness.children import RUN_VARIABLE, Child
from tests.harness.control_plane import SERVICE_ADDRESS
from tests.harness.hubs import wait_ready_file
from tests.harness.pki import write_private
from tests.harness.runs import Run
from tests.room import room

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
FALLBACK = (
    MANIFEST.replace("riata-agent-node", "riata-agent-node-fallback").replace("worker-7", "worker-8")
    + """
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: riata-agent-fallback-impersonate, labels: {app.kubernetes.io/part-of: riata}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: riata-agent-impersonate}
subjects:
  - {kind: ServiceAccount, name: riata-agent-node-fallback, namespace: riata-system}
"""
)


@dataclass
class NodeAgent:
    """A process `riata-agent node` with the token of its pod."""

    line: Line
    cluster: str
    directory: Path
    agent: Agent
    is_fallback: bool = False
    """Its ServiceAccount is the fallback's."""
    says_fallback: bool = False
    """It is started as one that serves."""
    environ: dict[str, str] = field(default_factory=dict)
    """What else its pod would have."""
    child: Child | None = None

    @property
    def node(self) -> str:
        return "worker-8" if self.is_fallback else "worker-7"

    @property
    def id(self) -> str:
        return f"{self.cluster}:{self.node}"

    @property
    def account(self) -> str:
        return "riata-agent-node-fallback" if self.is_fallback else "riata-agent-node"

    async def fetch_token(self) -> str:
        """What the kubelet would project: for the hub, and for the API server."""
        hub_id = json.loads((self.line.hub.directory / "ready.json").read_text())["hub_id"]
        uid = (await self.line.api.must("GET", f"/v1/clusters/{self.cluster}"))["uid"]
        create = ["create", "token", self.account, "-n", "riata-system", "--duration=600s"]
        create += ["--bound-object-kind=Pod", f"--bound-object-name={self.account}-x"]
        token = ""
        for name, more in (("kube.token", ()), ("token", (f"--audience=riata:{hub_id}:{uid}",))):
            token = (await self.line.light.kubectl(*create, *more)).check().stdout.strip()
            write_private(self.directory / "token.new", token.encode())
            (self.directory / "token.new").replace(self.directory / name)
        return token

    async def start(self) -> None:
        hub, pod = self.line.hub, self.agent.pod
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [*tools.console_script("riata-agent", "agent"), "node"]
        command += ["--hub-url", hub.url, "--hub-ca-file", str(hub.ca_file), "--hub-ca-pin", hub.ca_pin]
        command += ["--token-file", str(self.directory / "token")]
        command += ["--kube-ca-file", str(pod.ca_file), "--kube-token-file", str(self.directory / "kube.token")]
        command += ["--fallback"] if self.says_fallback else []
        command += ["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--ready-file", str(ready)]
        environment = {"LANG": "C.UTF-8", RUN_VARIABLE: Run.current().name, **pod.env, **self.environ}
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

    @property
    def metrics_url(self) -> str:
        return str(json.loads((self.directory / "ready.json").read_text())["metrics_url"]) + "/metrics"

    async def agent_gone(self) -> None:
        """The hub knows that the cluster agent has ended."""

        async def away() -> bool:
            shown = await self.line.api.must("GET", f"/v1/clusters/{self.cluster}")
            return all(tunnel["role"] != "cluster" for tunnel in shown["tunnels"])

        await until(away, what="the cluster agent to be gone", every=0.02)

    async def gone(self) -> None:
        async def away() -> bool:
            found = await self.listed()
            return found is None or not found["connected"]

        await until(away, what="the node agent to be gone", every=0.02)


@contextlib.asynccontextmanager
async def node_agent(
    line: Line, name: str, *, is_fallback: bool = False, says_fallback: bool | None = None
) -> AsyncIterator[NodeAgent]:
    """A cluster agent with its key in a Secret, which registers the issuer, and a node agent beside it."""
    await line.light.kubectl("delete", "secret", "riata-agent-key", "-n", "riata-system", "--ignore-not-found")
    async with harness.agent(line.hub, line.light, name=name, enrol=True, wait=False,
                             options=["--key-secret", "riata-system/riata-agent-key"]) as agent:  # fmt: skip
        await line.light.apply(SECRET)
        await line.light.apply(FALLBACK if is_fallback else MANIFEST)
        await agent.restart()
        directory = Run.current().subdirectory(f"node-{name}")
        node = NodeAgent(
            line, name, directory, agent, is_fallback, is_fallback if says_fallback is None else says_fallback
        )
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
        # No request goes to it: it is no fallback.
        assert await status_of(hub_line, "with-nodes") == 503
        shown = await hub_line.api.must("GET", "/v1/clusters/with-nodes")
        assert (shown["connected"], shown["route"]["reason"]) == (False, "none-eligible")
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
        assert took <= 1.0 * room()
        await node.fetch_token()  # a fresh token does not help, and is noticed at once
        await asyncio.sleep(5)
        found = await node.listed()
        assert found is not None
        assert (found["connected"], found["revokedAt"] is not None) == (False, True)
        assert "was revoked at" in (node.directory / "agent.log").read_text()
        await hub_line.api.must("POST", f"/v1/agents/{node.id}/readmit")
        await node.fetch_token()
        await node.connected()


async def test_one_that_says_it_is_the_fallback_and_is_not_gets_no_request(hub_line: Line) -> None:
    async with node_agent(hub_line, "false-fallback", says_fallback=True) as node:
        await node.connected()
        node.agent.kill()
        await node.agent_gone()
        assert await status_of(hub_line, "false-fallback") == 503
        (tunnel,) = (await hub_line.api.must("GET", "/v1/clusters/false-fallback"))["tunnels"]
        assert (tunnel["role"], tunnel["serves"]) == ("node", False)
        page = await measures.scrape(node.metrics_url)
        assert page.get("riata_agent_refusals_total", 0.0) == 0  # the hub did not even ask


async def test_the_fallback_that_was_not_started_as_one_takes_no_request(hub_line: Line) -> None:
    async with node_agent(hub_line, "shy-fallback", is_fallback=True, says_fallback=False) as node:
        await node.connected()
        node.agent.kill()
        await node.agent_gone()
        assert await status_of(hub_line, "shy-fallback") in (429, 503)
        assert (await measures.scrape(node.metrics_url))["riata_agent_refusals_total"] >= 1


async def test_a_node_agent_carries_everything_while_the_cluster_agent_is_down(hub_line: Line) -> None:
    name = "falls-back"
    async with node_agent(hub_line, name, is_fallback=True) as node, hub_line.entry(name).session() as session:
        await node.connected()
        entry = hub_line.entry(name)
        maps = "/api/v1/namespaces/default/configmaps"
        ask = Ask(entry, session)
        assert (await ask.route()).startswith("cluster/")
        watching = entry.at(f"{maps}?watch=1&resourceVersion=0&fieldSelector=metadata.name=route-test")
        watch = await session.get(watching)
        assert watch.headers["Riata-Route"].startswith("cluster/")
        node.agent.kill()
        started = time.monotonic()
        assert (await ask.route()).startswith(f"node/{node.node}; reason=fallback-")
        first_s = time.monotonic() - started
        assert (await watch.read()).count(b"\n") == 0  # a clean end, between two events
        watch_s = time.monotonic() - started
        kubectl_started = time.monotonic()
        listed = await entry.kubectl("get", "namespaces", "-o", "name")
        kubectl_s = time.monotonic() - kubectl_started
        assert "namespace/default" in listed.stdout
        figures = {"first GET": first_s, "watch ended": watch_s, "kubectl get": kubectl_s}
        print(f"\nafter SIGKILL of the cluster agent: { {name: round(took, 3) for name, took in figures.items()} } s")
        assert first_s < 1.0 * room()
        # The watch goes on by the node agent, and a change goes the same way.
        resumed = await session.get(
            entry.at(f"{maps}?watch=1&resourceVersion=0&fieldSelector=metadata.name=route-test")
        )
        assert resumed.headers["Riata-Route"].startswith(f"node/{node.node}; ")
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "route-test"}}
        async with session.post(entry.at(maps), json=document) as made:
            assert (made.status, made.headers["Riata-Route"][:5]) == (201, "node/")
        async with asyncio.timeout(30):
            assert json.loads(await resumed.content.readline())["type"] == "ADDED"
        shown = await hub_line.api.must("GET", f"/v1/clusters/{name}")
        assert (shown["connected"], shown["fallbackNodes"]) == (True, [node.node])
        assert (shown["route"]["role"], shown["route"]["node"]) == ("node", node.node)
        await node.agent.restart()
        assert (await ask.route()).startswith("cluster/")  # new requests take it …
        async with session.delete(entry.at(f"{maps}/route-test")) as gone:
            assert (gone.status, gone.headers["Riata-Route"][:8]) == (200, "cluster/")
        async with asyncio.timeout(30):  # … and the stream that goes well stays
            assert json.loads(await resumed.content.readline())["type"] == "DELETED"
        resumed.close()
        page = await measures.scrape(hub_line.hub.metrics_url)
        assert page["riata_hub_routed_total"] > 0


async def test_a_node_agent_reaches_the_api_server_while_the_service_is_no_way_to_it(hub_line: Line) -> None:
    """The Service's address leads nowhere, as without kube-proxy; the certificate is still checked for its name."""
    name = "no-service"
    async with node_agent(hub_line, name, is_fallback=True) as node, hub_line.entry(name).session() as session:
        url = urlsplit(hub_line.light.url)
        endpoints = node.directory / "endpoints"
        node.environ = {
            "KUBERNETES_SERVICE_HOST": SERVICE_ADDRESS,
            "KUBERNETES_SERVICE_PORT": "443",
            "RIATA_AGENT_KUBE_ENDPOINTS_FILE": str(endpoints),
        }
        await node.stop()
        await node.start()
        await node.connected()
        node.agent.kill()
        await node.agent_gone()
        ask = Ask(hub_line.entry(name), session)
        assert await status_of(hub_line, name) in (503, 504)
        endpoints.write_text(f"{url.hostname}:{url.port}\n")
        await asyncio.sleep(5.1)  # longer than between two looks at the file
        for what in ("first", "second"):
            started = time.monotonic()
            assert (await ask.route()).startswith(f"node/{node.node}; ")
            took = time.monotonic() - started
            print(f"\n{what} GET without the Service: {took:.3f} s")
            assert took < 1.0 * room()
        page = await measures.scrape(node.metrics_url)
        assert page["riata_agent_kube_around_service"] == 1


async def test_no_read_fails_and_no_change_runs_twice_while_the_only_cluster_agent_is_killed_again_and_again(
    hub_line: Line,
) -> None:
    name, kills = "killed", 4
    async with node_agent(hub_line, name, is_fallback=True) as node, hub_line.entry(name).session() as session:
        await node.connected()
        entry, ended = hub_line.entry(name), asyncio.Event()
        maps = entry.at("/api/v1/namespaces/default/configmaps")
        took: list[float] = []
        routes: collections.Counter[str] = collections.Counter()
        changes: collections.Counter[int] = collections.Counter()

        async def read() -> None:
            while not ended.is_set():
                started = time.monotonic()
                routes[(await Ask(entry, session).route()).partition(";")[0].partition("/")[0]] += 1
                took.append(time.monotonic() - started)

        async def change(worker: int) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                metadata = {"name": f"killed-{worker}-{number}", "labels": {"test": "killed"}}
                made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
                async with session.post(maps, json=made) as answer:
                    changes[answer.status] += 1  # one that ran twice would be 409 for its name
                    assert "Retry-After" not in answer.headers
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for worker in range(2):
                group.create_task(read())
                group.create_task(change(worker))
            for _ in range(kills):
                await asyncio.sleep(0.4)
                node.agent.kill()
                await asyncio.sleep(0.4)
                await node.agent.restart()
            await asyncio.sleep(0.4)
            ended.set()
        async with session.delete(f"{maps}?labelSelector=test%3Dkilled") as gone:
            assert gone.status == 200
        print(f"\n{kills} kills; reads by {dict(routes)}, {measures.shown(took)}; changes {dict(changes)}")
        assert set(changes) <= {201, 504}
        assert changes[504] <= 2 * kills  # those that were on their way to an agent when it was killed
        assert routes["node"] > 0
        assert routes["cluster"] > 0
        assert max(took) < 1.0 * room()


async def test_a_node_agent_carries_what_the_cluster_agent_has_no_way_for(hub_line: Line) -> None:
    """The cluster agent is connected, but its way to the API server is broken: no request fails for that."""
    name = "no-way"
    async with node_agent(hub_line, name, is_fallback=True) as node, hub_line.entry(name).session() as session:
        await node.connected()
        agent = node.agent
        agent.kill()
        await node.agent_gone()
        write_private(agent.directory / "agent.token", (await hub_line.hub.api.agent_token(name)).encode())
        agent.options[:] = ["--kube-url", "https://127.0.0.1:1"]
        await agent.restart()
        entry = hub_line.entry(name)
        started = time.monotonic()
        assert await Ask(entry, session).route() == f"node/{node.node}; reason=fallback-retry; attempts=2"
        took = time.monotonic() - started
        print(f"\nanswered by the next route after {took * 1000:.0f} ms")
        maps = entry.at("/api/v1/namespaces/default/configmaps")
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "no-way"},
            "data": {"x": "y" * 1_000_000},
        }
        async with session.post(maps, json=document) as made:
            assert (made.status, made.headers["Riata-Route"][-10:]) == (201, "attempts=2"), await made.text()
        async with session.delete(f"{maps}/no-way") as gone:
            assert gone.status == 200
        page = await measures.scrape(hub_line.hub.metrics_url)
        assert page["riata_hub_reroutes_total"] >= 3


@dataclass
class Ask:
    """Small requests by somebody who administers the cluster."""

    entry: Entry
    session: aiohttp.ClientSession

    async def route(self) -> str:
        """Which way one went."""
        async with self.session.get(self.entry.at("/api/v1/namespaces/default")) as answer:
            assert answer.status == 200, await answer.text()
            return answer.headers["Riata-Route"]
