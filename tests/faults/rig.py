"""The line under faults: a real hub, real agents as processes, each behind a fault proxy of its own, and a stub in
place of each cluster's API server."""

import asyncio
import contextlib
import errno
import hashlib
import io
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from tests import harness
from tests.e2e import measures
from tests.faults.issuer import Issuer
from tests.faults.place import Place
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.faults.stub import Stub, api_server, digest
from tests.harness import tools
from tests.harness.children import RUN_VARIABLE, Child
from tests.harness.hubs import wait_ready_file
from tests.harness.pki import write_private
from tests.harness.records import written
from tests.harness.runs import Run

READY_S: Final = 60.0
_READ: Final = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=5).read())"
PATH: Final = "/api/v1/namespaces/faults/configmaps/x"


@dataclass
class Replica:
    """One agent's process, started again as often as a test ends it, and its way to the hub."""

    cluster: "FaultCluster"
    name: str
    directory: Path
    proxy: FaultProxy
    failpoints: Path | None
    """Where those that die write it down; None for an agent without failpoints."""
    child: Child | None = None
    instance: str = ""
    metrics_url: str = ""
    prefix: Sequence[str] = ()
    """Brings the process into another network."""
    hub_url: str = ""
    """Another way to the hub than through the proxy."""
    kube_host: str = "127.0.0.1"
    kube_port: int = 0
    """Another port than the stub's."""
    mode: str = "cluster"
    more: Sequence[str] = ()
    """Further options of its command line."""
    program: Sequence[str] = ()
    """In place of `riata-agent`."""

    async def start(self) -> None:
        """Start the process; `connected` waits for its tunnel."""
        if self.mode == "node":
            self.renew()
        self._ready_file.unlink(missing_ok=True)
        command = [*self.prefix, *self._program(), self.mode, *self._options(), "--ready-file", str(self._ready_file)]
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", RUN_VARIABLE: Run.current().name}
        log = self.directory / "agent.log"
        self.child = Child.start("riata-agent", command, log=log, env=environment, cwd=tools.REPOSITORY)
        await self._is_ready()

    async def again(self) -> None:
        """The next process of one that died at a failpoint (tests.faults.failpoint); `connected` waits as ever."""
        assert self.failpoints is not None
        self._ready_file.unlink(missing_ok=True)
        self.send(signal.SIGUSR1)
        await self._is_ready()

    @property
    def _ready_file(self) -> Path:
        return self.directory / "ready.json"

    async def _is_ready(self) -> None:
        assert self.child is not None
        ready = await wait_ready_file(self._ready_file, self.child, READY_S)
        self.instance, self.metrics_url = ready["instance"], ready["metrics_url"]

    def _program(self) -> list[str]:
        if self.program:
            return [*self.program]
        if self.failpoints is None:
            return tools.console_script("riata-agent", "agent")
        return [sys.executable, "-m", "tests.faults.failpoint", str(self.failpoints)]

    def _options(self) -> list[str]:
        hub, stub = self.cluster.hub, self.cluster.stub
        url = self.hub_url or f"https://127.0.0.1:{self.proxy.port}"
        options = ["--hub-url", url, "--hub-ca-file", str(hub.ca_file), "--hub-ca-pin", hub.ca_pin]
        if self.mode == "node":
            options += ["--token-file", str(self.directory / "node.token"), "--fallback"]
        else:
            options += ["--token-file", str(self.cluster.directory / "agent.token")]
        options += [
            "--kube-url",
            f"https://{self.kube_host}:{self.kube_port or stub.port}",
            "--kube-ca-file",
            str(stub.ca_file),
        ]
        options += ["--kube-token-file", str(self.directory / "kube.token"), "--health-listen", ""]
        return [*options, "--metrics-listen", "127.0.0.1:0", *self.more]

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log's records of this event."""
        return [line for line in written(self.directory / "agent.log") if line["event"] == event]

    async def page(self) -> measures.Page:
        """Its metrics, read where it runs."""
        url = f"{self.metrics_url}/metrics"
        if not self.prefix:
            return await measures.scrape(url)
        done = await harness.execute([*self.prefix, sys.executable, "-I", "-S", "-c", _READ, url], timeout=15)
        return measures.summed(done.check().stdout)

    def renew(self) -> None:
        """A fresh token for a node agent, whose life is ten minutes."""
        hub_id = json.loads((self.cluster.hub.directory / "ready.json").read_text())["hub_id"]
        self.cluster.issuer.project(self.directory / "node.token", hub_id, self.cluster.uid, self.name)

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def send(self, number: int) -> None:
        """A signal: SIGSTOP, SIGCONT."""
        assert self.child is not None
        self.child.send(number)

    def kill(self) -> None:
        """SIGKILL, reaped on return."""
        assert self.child is not None
        self.child.kill()

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(10)


@dataclass
class FaultCluster:
    """A registered cluster: its stub, its agents, and a user's way into it."""

    name: str
    hub: harness.Hub
    directory: Path
    stub: Stub
    seed: int
    uid: str
    issuer: Issuer
    replicas: list[Replica] = field(default_factory=list)

    async def tunnels(self) -> dict[str, dict[str, Any]]:
        """What the hub says of this cluster's tunnels, by instance."""
        found = await self.hub.api.call("GET", f"/v1/clusters/{self.name}")
        return {each["instance"]: each for each in found["tunnels"]}

    async def connected(self, *replicas: Replica, within_s: float = 30.0) -> float:
        """Wait until the hub has the tunnels of all these (all when none is named) and knows how far away they are;
        returns the seconds waited."""
        started = time.monotonic()
        wanted = {each.instance for each in replicas or self.replicas}
        while not wanted <= {name for name, each in (await self.tunnels()).items() if each["rttSeconds"] is not None}:
            assert time.monotonic() - started < within_s, f"{self.name}: not connected within {within_s} s"
            await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def user(self, name: str) -> str:
        """The token of a new user who may use every cluster."""
        await self.hub.api.grant(name, user=name, cluster="*", role="admin")
        return await self.hub.api.user_token(name, user=name)

    def node(self, name: str) -> contextlib.AbstractAsyncContextManager[Replica]:
        """A node agent of the fallback on a node of this name."""
        return self.replica(name, mode="node")

    @contextlib.asynccontextmanager
    async def replica(
        self,
        name: str,
        *,
        failpoints: Path | None = None,
        there: Place | None = None,
        mode: str = "cluster",
        kube_port: int = 0,
        more: Sequence[str] = (),
        program: Sequence[str] = (),
    ) -> AsyncIterator[Replica]:
        """One more agent behind a proxy of its own, connected on entry. `there`: it runs in that network and reaches
        the hub directly, over the long way if there is one. `kube_port`: where it looks for the stub instead.
        `more`: further options. `program`: another one than `riata-agent`."""
        port = urlsplit(self.hub.url).port
        assert port is not None
        directory = Run.current().subdirectory(f"agent-{self.name}-{name}")
        seed = self.seed * 100 + len(self.replicas)
        async with fault_proxy(("127.0.0.1", port), seed=seed) as proxy:
            made = Replica(
                self, name, directory, proxy, failpoints, mode=mode, kube_port=kube_port, more=more, program=program
            )
            write_private(directory / "kube.token", name.encode())
            if there is not None:
                made.prefix, made.kube_host = there.prefix, there.near_host
                made.hub_url = self.hub.url_on(there.hub_host)
            self.replicas.append(made)
            try:
                await made.start()
                await self.connected(made)
                yield made
            finally:
                await made.stop()
                self.replicas.remove(made)

    @contextlib.asynccontextmanager
    async def client(self, token: str = "") -> AsyncIterator["Client"]:
        """A user (the administrator without `token`) with a connection for each request: on one that it kept, aiohttp
        repeats some requests by itself."""
        context = ssl.create_default_context(cafile=str(self.hub.ca_file))
        bearer = token or self.hub.admin_token_file.read_text().strip()
        connector = aiohttp.TCPConnector(ssl=context, force_close=True, limit=0)
        headers = {"Authorization": f"Bearer {bearer}"}
        timeout = aiohttp.ClientTimeout(total=180)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            yield Client(session, f"{self.hub.url}/k8s/clusters/{self.name}")


@dataclass
class Answer:
    """What a client got, and when, on the monotonic clock."""

    status: int = 0
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    text: str = ""
    size: int = 0
    sha256: str = ""
    began_at: float = 0.0
    head_at: float = 0.0
    ended_at: float = 0.0

    @property
    def route(self) -> str:
        """The role of the agent that answered, as the hub tells administrators."""
        return self.headers.get("Riata-Route", "").partition("/")[0]

    error: str = ""
    """How the connection broke; empty when the client takes the answer for whole."""

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at

    def is_whole(self, size: int) -> bool:
        """Every byte that the stub sent."""
        return self.status == 200 and not self.error and self.sha256 == digest(size)


@dataclass
class Client:
    """Asks like a Kubernetes client that repeats nothing."""

    session: aiohttp.ClientSession
    base: str

    async def ask(self, method: str, query: str, *, path: str = PATH, body: bytes | None = None) -> Answer:
        """One request. Never raises for what the network does."""
        answer = Answer(began_at=time.monotonic())
        digester = hashlib.sha256()
        data = io.BytesIO(body) if body and len(body) > 1024 * 1024 else body  # aiohttp warns of large ones
        try:
            async with self.session.request(method, f"{self.base}{path}?{query}", data=data) as response:
                answer.head_at = time.monotonic()
                answer.status, answer.headers = response.status, response.headers.copy()
                kept = []
                async for piece in response.content.iter_any():
                    answer.size += len(piece)
                    digester.update(piece)
                    if answer.size <= 4096:
                        kept.append(piece)
                answer.text = b"".join(kept).decode(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            number = getattr(exc, "errno", None)
            answer.error = f"{type(exc).__name__} {errno.errorcode.get(number or 0, '')}: {exc}"
        answer.ended_at = time.monotonic()
        answer.sha256 = digester.hexdigest()
        return answer


@contextlib.asynccontextmanager
async def fault_cluster(
    hub: harness.Hub, name: str, *, seed: int, hosts: Sequence[str] = ()
) -> AsyncIterator[FaultCluster]:
    """A cluster without agents yet. `hosts`: as `api_server`."""
    directory = Run.current().subdirectory(f"cluster-{name}")
    made = await hub.api.create_cluster(name)
    write_private(directory / "agent.token", (await hub.api.agent_token(name)).encode())
    issuer = Issuer()
    await issuer.register(hub, directory / "agent.token")
    async with api_server(directory, hosts=hosts) as stub:
        yield FaultCluster(name, hub, directory, stub, seed, made["uid"], issuer)
