"""What an idle node agent costs: TCP payload a day, memory."""

import asyncio
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import measures
from tests.e2e.line import Line
from tests.e2e.test_node_agents import IDLE_MIB, NodeAgent, node_agent
from tests.harness import execute

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

DAY_S = 86_400
PING_S = 10.0
RENEWAL_S = 480.0
"""The kubelet renews a token of 600 s when four fifths of it are over."""
DAY_BYTES = 900_000
"""A megabyte is promised; the token's length depends on names in the cluster."""


@dataclass
class Payload:
    """TCP payload of the agent's connections, both ways, as the kernel counts it."""

    sent: int
    received: int

    def __sub__(self, other: "Payload") -> int:
        return self.sent + self.received - other.sent - other.received


async def payload(node: NodeAgent) -> Payload:
    assert node.child is not None
    port = node.line.hub.url.rpartition(":")[2]
    shown = (
        (await execute(["ss", "-tinpH", "state", "established", "dport", "=", f":{port}"], timeout=10)).check().stdout
    )
    mine = [entry for entry in re.split(r"\n(?=\S)", shown) if f"pid={node.child.pid}," in entry]
    (entry,) = mine
    counted = {name: int(value) for name, value in re.findall(r"(bytes_sent|bytes_received):(\d+)", entry)}
    return Payload(counted["bytes_sent"], counted["bytes_received"])


async def between_pings(node: NodeAgent) -> None:
    """Return some seconds behind a ping, so that a busy machine moves none into or out of an interval."""
    await asyncio.sleep(1)  # what the session began with is over
    before = await payload(node)
    async with asyncio.timeout(2 * PING_S):
        while await payload(node) - before == 0:  # noqa: ASYNC110 the kernel has no event
            await asyncio.sleep(0.5)
    await asyncio.sleep(3)


async def test_an_idle_node_agent_costs_less_than_a_megabyte_a_day(hub_line: Line) -> None:
    """One interval of pings, and one renewal of its token, each counted and multiplied by how often they come."""
    async with node_agent(hub_line, "idle-node") as node:
        facts = (await node.connected())["nodeFacts"]
        assert facts["bootId"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert (facts["kernel"], facts["architecture"]) == (platform.release(), platform.machine())
        await between_pings(node)
        begun = await payload(node)
        await asyncio.sleep(PING_S)
        idle = await payload(node) - begun
        assert idle > 0
        before = await payload(node)
        token = await node.fetch_token()
        # The agent looks every 5 s: most of this time is behind the renewal, so that what it wakes is seen too.
        await asyncio.sleep(2 * PING_S)
        renewal = await payload(node) - before - 2 * idle
        assert renewal > 400, "the fresher token was presented"
        assert node.child is not None
        resident = measures.resident_mib(node.child.pid)
        day = idle * DAY_S / PING_S + renewal * DAY_S / RENEWAL_S
        print(
            f"\nidle node agent: {idle:.0f} bytes in {PING_S:g} s, {renewal} bytes for a token of {len(token)}:"
            f" {day / 1000:.0f} KB a day; {resident:.1f} MiB"
        )
        assert day <= DAY_BYTES
        assert resident <= IDLE_MIB
