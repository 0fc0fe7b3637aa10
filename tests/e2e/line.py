"""The line under test: one hub, its clusters, their agents, as processes; and what must be quiet after each test."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import harness
from tests.e2e import measures
from tests.e2e.entry import Entry
from tests.e2e.hubapi import HubApi
from tests.harness import tools

USER = "tess"
GROUP = "testers"

HUB_STREAMS = "riata_hub_streams"
AGENT_STREAMS = "riata_agent_exchanges"
HUB_TASKS = "riata_hub_tasks"
AGENT_TASKS = "riata_agent_tasks"
KUBE_CONNECTIONS = "riata_agent_kube_connections"
_READ = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=5).read())"


@dataclass
class Line:
    """Everything that the tests share. `full` is missing where the machine cannot run real pods."""

    hub: harness.Hub
    api: HubApi
    light: harness.Cluster
    full: harness.Cluster | None
    agents: dict[str, harness.Agent]
    token: str = ""
    rested: dict[str, float] = field(default_factory=dict)
    """What was held when the line was last seen at rest."""

    def entry(self, cluster: str, token: str = "") -> Entry:
        """The way into `cluster`: with the shared test user's token when none is given."""
        return self.api.entry(cluster, token or self.token)

    async def streams(self) -> dict[str, float]:
        """Open streams as hub and agents count them."""
        counted = {"hub": (await measures.scrape(self.hub.metrics_url)).get(HUB_STREAMS, 0.0)}
        for name, agent in self.agents.items():
            counted[name] = (await agent_page(agent)).get(AGENT_STREAMS, 0.0)
        return counted

    def descriptors(self) -> dict[str, int]:
        """Open descriptors of hub and agents."""
        pids = {"hub": self.hub.pid, **{name: agent.pid for name, agent in self.agents.items()}}
        return {name: measures.descriptors(pid) for name, pid in pids.items()}

    async def holdings(self) -> dict[str, float]:
        """What hub and agents hold: streams, tasks and descriptors, by process and kind.

        An agent's connections to its API server are kept on purpose (its pool bounds them) and not counted; in a quiet
        line all of them are idle.
        """
        descriptors = self.descriptors()  # first: our own scrapes open some
        page = await measures.scrape(self.hub.metrics_url)
        held = {
            "hub streams": page.get(HUB_STREAMS, 0.0),
            "hub tasks": page[HUB_TASKS],
            "hub descriptors": float(descriptors["hub"]),
        }
        for name, agent in self.agents.items():
            page = await agent_page(agent)
            held[f"{name} streams"] = page[AGENT_STREAMS]
            held[f"{name} tasks"] = page[AGENT_TASKS]
            held[f"{name} descriptors"] = descriptors[name] - page[KUBE_CONNECTIONS]
        return held

    async def rest(self) -> None:
        """Remember what is held while nobody asks for anything; right after a start, connections are still closing."""
        for _ in range(5):
            self.rested = lowest(await self.holdings(), self.rested)
            await asyncio.sleep(0.2)

    async def base(self) -> dict[str, float]:
        """What is held now, without what is only not closed yet: that would hide as much that a test leaves."""
        return lowest(await self.holdings(), self.rested)

    async def quiet(self, base: dict[str, float], within: float = 15.0) -> None:
        """Wait until no process has more streams than in `base`. Raises AssertionError with the counts."""
        await settled(self.streams, base, within)

    async def released(self, base: dict[str, float], within: float = 30.0) -> None:
        """Wait until nothing is held that `base` had not. Raises AssertionError with the counts."""
        try:
            self.rested = await settled(self.holdings, base, within)
        except AssertionError:
            self.rested = {}  # one test is to blame, not all that follow
            raise


def lowest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """The lower of two counts of everything in `one`."""
    return {name: min(count, other.get(name, count)) for name, count in one.items()}


async def settled(
    read: Callable[[], Awaitable[dict[str, float]]], base: dict[str, float], within: float
) -> dict[str, float]:
    """Repeat `read` until no count is above that of `base`, 0 where it has none; return what was read last.

    Raises AssertionError with those that are above.
    """
    deadline = time.monotonic() + within
    while True:
        now = await read()
        more = {name: count for name, count in now.items() if count > base.get(name, 0.0)}
        if not more:
            return now
        before = {name: base.get(name, 0.0) for name in more}
        assert time.monotonic() < deadline, f"left behind: {more}, before the test {before}"
        await asyncio.sleep(0.05)


async def agent_page(agent: harness.Agent) -> measures.Page:
    """An agent's metrics, read from inside its cluster's network."""
    url = agent.metrics_url.removesuffix("/metrics") + "/metrics"
    if not agent.pod.command_prefix:
        return await measures.scrape(url)
    command = [*agent.pod.command_prefix, sys.executable, "-I", "-S", "-c", _READ, url]
    return measures.summed((await harness.execute(command, timeout=15)).check().stdout)


@asynccontextmanager
async def running_line(directory: Path, light: harness.Cluster, full: harness.Cluster | None) -> AsyncIterator[Line]:
    """Start the hub and an agent for each cluster; all of them are gone afterwards."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(harness.hub())
        admin = hub.admin_token_file.read_text().strip()
        api = HubApi(hub.url, hub.ca_file, admin, Path(tools.kube("kubectl")), directory, made=[admin])
        agents = {}
        for cluster in filter(None, (light, full)):
            agents[cluster.name] = await stack.enter_async_context(harness.agent(hub, cluster))
        line = Line(hub, api, light, full, agents)
        line.token = (await api.mint("tests", user=USER, groups=[GROUP])).token
        await api.grant("tests", user=USER, cluster="*", role="admin")
        print(f"\nhub and {len(agents)} agents ready in {time.monotonic() - started:.1f} s")
        yield line
