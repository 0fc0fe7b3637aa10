"""What is put on the hub: processes of simulated agents (agents.py) and of watches (load/hold.go)."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from hub.auth.agentkeys import AgentKeys
from hub.auth.agents import ROLE_CLUSTER
from hub.clock import wall_clock
from hub.clusters.records import Clusters
from hub.store.sqlite import FILE_NAME, SqliteStore
from proto import credentials
from tests.bench import processes, rig
from tests.bench.scale import agents, shown
from tests.bench.scale.hub import Hub
from tests.harness import tools

PER_CLUSTER: Final = 5
"""Tunnels of a cluster: as many instances of one role as a hub takes (P7)."""
WATCHES_PER_CLUSTER: Final = 10
PROCESS_MAX: Final = 1_250
"""Agents in one generator process."""
COMMIT: Final = 200
"""Clusters that are written at once, in one commit."""
REGISTRATIONS: Final = 8
"""API calls at once while clusters are registered."""
WAIT_MAX_S: Final = 90.0


def cluster(number: int) -> str:
    return f"c-{number}"


async def register(hub: Hub, clusters: int) -> list[str]:
    """Create the clusters; the agent token of each."""
    places = asyncio.Semaphore(REGISTRATIONS)

    async def one(number: int) -> str:
        async with places:
            await hub.call("POST", "/v1/clusters", {"name": cluster(number), "labels": {"tier": f"t{number % 10}"}})
            minted = await hub.call("POST", f"/v1/clusters/{cluster(number)}/agent-tokens", {"name": "scale"})
            return str(minted["token"])

    return await asyncio.gather(*map(one, range(clusters)))


async def enrol(hub: Hub, clusters: int) -> list[str]:
    """The same many clusters with a key each, written by a hub that stands still; what their agents show (shown.py)."""
    store = await SqliteStore.open(hub.data / FILE_NAME)
    try:
        records, keys = Clusters(store, wall_clock), AgentKeys(store, wall_clock)

        async def one(number: int) -> str:
            made, _, _ = await records.create(
                name=cluster(number), labels={"tier": f"t{number % 10}"}, created_by="scale"
            )
            seed = credentials.new_seed()
            await keys.enrol(
                agent_id=f"scale-{number}",
                cluster_uid=made.uid,
                role=ROLE_CLUSTER,
                key=credentials.public_key(seed),
                joined_from="127.0.0.1",
            )
            return shown.key_line(made.uid, seed, str(hub.ready["ca_pin"]))

        found = []
        for at in range(0, clusters, COMMIT):
            found += await asyncio.gather(*map(one, range(at, min(at + COMMIT, clusters))))
        return found
    finally:
        await store.close()


class Generator:
    """A process that says in lines of JSON what it has done, and takes orders on its standard input."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, name: str, log: Path, command: list[str]) -> "Generator":
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def heard(self, timeout_s: float = WAIT_MAX_S) -> dict[str, Any]:
        """The next thing it says. Raises RuntimeError when it says nothing in time, or has ended."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise RuntimeError(f"{self._name}: silent for {timeout_s:.0f} s") from None
        if not line:
            raise RuntimeError(f"{self._name} ended: {self._log.read_text()[-400:].strip()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def order(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())

    async def end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def connected(hub: Hub, lines: list[str], name: str = "agents") -> AsyncIterator["Agents"]:
    """PER_CLUSTER agents for each line of what they show (shown.py), all connected. `name`: of their files, beside
    other agents of the same hub."""
    share = PROCESS_MAX // PER_CLUSTER
    async with contextlib.AsyncExitStack() as stack:
        generators = []
        for at in range(0, len(lines), share):
            file = rig.write(hub.directory / f"{name}-{at}.shown", "\n".join(lines[at : at + share]))
            command = [tools.interpreter(), "-m", agents.__name__, hub.url, str(hub.ca), str(file), str(PER_CLUSTER)]
            generator = await Generator.start("agents", hub.directory / f"{name}-{at}.log", command)
            stack.push_async_callback(generator.end)
            if hub.has_core:
                processes.share_cores([hub.pid], generator.pid)
            generators.append(generator)
        fleet = Agents(generators)
        await fleet.all_open()
        yield fleet


class Agents:
    """All generators of agents."""

    def __init__(self, generators: list[Generator]) -> None:
        self._generators = generators

    def __len__(self) -> int:
        return len(self._generators)

    async def all_open(self) -> float:
        """Wait until all tunnels are open; when the last one was, on the monotonic clock."""
        return (await self.all_back())[0]

    async def all_back(self) -> tuple[float, int]:
        """The same, and the most attempts that an agent made at a hub that listened."""
        said = await asyncio.gather(*(generator.heard() for generator in self._generators))
        return max(float(each["at"]) for each in said), max(int(each["attempts"]) for each in said)

    def drop(self) -> float:
        """Abort every tunnel; when."""
        for generator in self._generators:
            generator.order("drop")
        return time.monotonic()


@contextlib.asynccontextmanager
async def watching(hub: Hub, load: Path, clusters: int) -> AsyncIterator[float]:
    """WATCHES_PER_CLUSTER watches on each cluster, each with its first event; the seconds they took to open."""
    command = [str(load), "hold", "-url", f"{hub.url}/k8s/clusters/{cluster(0)[:-1]}", "-ca", str(hub.ca)]
    command += ["-token-file", str(hub.admin), "-clusters", str(clusters)]
    command += ["-connections", str(WATCHES_PER_CLUSTER * clusters)]
    generator = await Generator.start("watches", hub.directory / "watches.log", command)
    try:
        yield float((await generator.heard())["seconds"])
    finally:
        await generator.end()
