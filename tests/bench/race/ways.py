"""The ways to the API server that race: direct, riata as its users run it, and its peers (`main.go`)."""

import asyncio
import contextlib
import dataclasses
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.bench import processes, rig
from tests.harness import pki

CLUSTER = "bench"
PREFIX = f"/k8s/clusters/{CLUSTER}"
PEERS = {"rd": ("rd", 100), "rd2": ("rd", 2), "yamux": ("yamux", 100)}
"""Peer → multiplexer, idle connections that its hub keeps to the API server (2 is Go's default, and Rancher's)."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One way: the flags of the load client for it, and the pids of its two processes."""

    name: str
    flags: list[str]
    hub: int = 0
    agent: int = 0
    counts_url: str = ""
    """Where the slow link between hub and agent tells its bytes."""
    agent_command: tuple[str, ...] = ()
    """How the agent was started: a second one is started alike."""
    admin: Path | None = None
    """riata's administrator's token."""

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time of hub and agent so far."""
        return tuple(processes.cpu_seconds(pid) if pid else 0.0 for pid in (self.hub, self.agent))  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Target:
    """The stand-in API server."""

    pid: int
    url: str
    ca: Path
    token_file: Path

    @property
    def address(self) -> str:
        return self.url.removeprefix("https://")


@dataclasses.dataclass(frozen=True)
class Link:
    """A slow link between hub and agent: seconds each way, bytes per second each way."""

    delay_s: float
    bytes_per_s: float


@dataclasses.dataclass
class Course:
    """Where the race is run."""

    directory: Path
    load: Path
    race: Path
    target: Target
    ways: dict[str, Way]
    tls: bool = True
    """On the peers' front and tunnel; riata has nothing else."""
    link: Link | None = None
    fresh_rss: dict[str, int] = dataclasses.field(default_factory=dict)
    """Bytes of each way's agent before anything is measured."""

    @contextlib.asynccontextmanager
    async def another(self, way: Way, *flags: str) -> AsyncIterator[int]:
        """One more agent of a way for a while; its pid."""
        process = await rig.launch(self.directory / f"{way.name}-another.log", [*way.agent_command, *flags])
        try:
            yield process.pid
        finally:
            await rig.stop(process)

    @contextlib.asynccontextmanager
    async def anew(self, name: str) -> AsyncIterator[Way]:
        """A way started once more, for what a process shows only once: the memory that it takes."""
        place = self.directory / f"anew-{secrets.token_hex(4)}"
        place.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            way = await _start(stack, dataclasses.replace(self, directory=place, ways={}), name)
            await _wait_until_it_serves(self, way)
            await asyncio.sleep(1)
            yield way

    async def run(self, way: Way, command: str, *flags: str) -> dict[str, Any]:
        """Run the load client on a way. Raises RuntimeError with its complaint."""
        process = await asyncio.create_subprocess_exec(
            str(self.load), command, *way.flags, *flags, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{way.name}: load {command}: {err.decode().strip()}")
        result: dict[str, Any] = json.loads(out)
        return result

    @property
    def pids(self) -> list[int]:
        """Every process that takes part, but for the load client."""
        return [self.target.pid, *(pid for way in self.ways.values() for pid in (way.hub, way.agent) if pid)]


@contextlib.asynccontextmanager
async def course(
    directory: Path, load: Path, race: Path, names: list[str], *, tls: bool, link: Link | None = None
) -> AsyncIterator[Course]:
    """Start the API server and the named ways."""
    async with contextlib.AsyncExitStack() as stack:
        token_file = rig.write(directory / "target.token", secrets.token_hex(24))
        pid, url, ca = await rig.start_target(stack, directory, load)
        built = Course(directory, load, race, Target(pid, url, ca, token_file), {}, tls, link)
        for name in names:
            built.ways[name] = await _start(stack, built, name)
        for way in built.ways.values():
            await _wait_until_it_serves(built, way)
        await asyncio.sleep(1)
        built.fresh_rss = {way.name: processes.rss_bytes(way.agent) for way in built.ways.values() if way.agent}
        yield built


async def _start(stack: contextlib.AsyncExitStack, course: Course, name: str) -> Way:
    if name == "direct":
        target = course.target
        return Way(name, ["-url", target.url, "-ca", str(target.ca), "-token-file", str(target.token_file)])
    return await (_start_riata(stack, course) if name == "riata" else _start_peer(stack, course, name))


async def _start_riata(stack: contextlib.AsyncExitStack, course: Course) -> Way:
    directory = course.directory / "riata"
    directory.mkdir()
    hub, ready, admin = await rig.start_hub(stack, directory)
    url, ca = ready["url"], Path(ready["ca_file"])
    await rig.call(url, ca, admin, "POST", "/v1/clusters", {"name": CLUSTER})
    minted = await rig.call(url, ca, admin, "POST", f"/v1/clusters/{CLUSTER}/agent-tokens", {"name": "race"})
    token = rig.write(directory / "agent.token", minted["token"])
    port, counts = await _start_link(stack, directory, course, int(url.rsplit(":", 1)[1]))
    target = course.target
    kube = ["--kube-url", target.url, "--kube-ca-file", str(target.ca), "--kube-token-file", str(target.token_file)]
    command = rig.agent_command(f"https://127.0.0.1:{port}", ready, token, kube)
    agent = await rig.start(stack, directory / "agent.log", command)
    flags = ["-url", url + PREFIX, "-ca", str(ca), "-token-file", str(admin)]
    return Way("riata", flags, hub, agent, counts, tuple(command), admin)


async def _start_peer(stack: contextlib.AsyncExitStack, course: Course, name: str) -> Way:
    (mux, pool), tls = PEERS[name], course.tls
    directory = course.directory / name
    directory.mkdir()
    authority = pki.Authority.create(directory, f"{name}-ca")
    pair = authority.leaf(name, name, hosts=["127.0.0.1", "localhost"])
    target = course.target
    command = [str(course.race), "hub", "-mux", mux, "-pool", str(pool), "-target", target.address]
    command += ["-target-ca", str(target.ca), "-target-token-file", str(target.token_file), "-prefix", PREFIX]
    command += ["-cert", str(pair.certificate), "-key", str(pair.key)] if tls else []
    hub = await rig.start(stack, directory / "hub.log", command)
    ports = json.loads(await rig.wait_for_text(directory / "hub.log"))
    port, counts = await _start_link(stack, directory, course, ports["tunnel_port"])
    command = [str(course.race), "agent", "-mux", mux, "-tunnel", f"127.0.0.1:{port}", "-target", target.address]
    command += ["-ca", str(authority.files.certificate)] if tls else []
    agent = await rig.start(stack, directory / "agent.log", command)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{ports['port']}{PREFIX}"
    flags = ["-url", url, "-ca", str(authority.files.certificate), "-token-file", str(target.token_file)]
    return Way(name, flags, hub, agent, counts, tuple(command))


async def _start_link(stack: contextlib.AsyncExitStack, directory: Path, course: Course, port: int) -> tuple[int, str]:
    link = course.link
    if link is None:
        return port, ""
    log = directory / "link.json"
    command = [str(course.load), "relay", "-to", f"127.0.0.1:{port}", "-delay", f"{link.delay_s * 1e3:.0f}ms"]
    await rig.start(stack, log, [*command, "-bytes-per-second", str(link.bytes_per_s)])
    ports = json.loads(await rig.wait_for_text(log))
    return ports["port"], f"http://127.0.0.1:{ports['counts_port']}/"


async def _wait_until_it_serves(course: Course, way: Way) -> None:
    for _ in range(100):
        try:
            await course.run(way, "get", "-duration", "10ms")
            return
        except RuntimeError as problem:
            last = problem
            await asyncio.sleep(0.1)
    raise last
