"""Hub and agent stay awake for answers about to come, and say how long (docs/adr/0026-busy-poll.md)."""

import os

import pytest

from tests import harness
from tests.e2e import measures
from tests.e2e.entry import Entry
from tests.e2e.line import Line, agent_page

pytestmark = [
    pytest.mark.light,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core nobody stays awake"),
]

GETS = 200
"""One after the other: the eighth that is not expected in time is tried all the same."""


async def test_lone_requests_are_stayed_awake_for_and_counted(hub_line: Line, light: Entry) -> None:
    agent = hub_line.agents[hub_line.light.name]
    before = await awake(hub_line, agent)
    async with light.session() as session:
        for _ in range(GETS):
            async with session.get(light.at("/version")) as answer:
                assert answer.status == 200
                await answer.read()
    now = await awake(hub_line, agent)
    for program, seconds in now.items():
        assert seconds > before[program], program


async def awake(line: Line, agent: harness.Agent) -> dict[str, float]:
    hub = await measures.scrape(line.hub.metrics_url)
    page = await agent_page(agent)
    return {
        "hub": hub["riata_hub_busy_poll_seconds_total"],
        "agent": page["riata_agent_busy_poll_seconds_total"],
    }
