"""The agent's own ServiceAccount token: replaced without a failed request, refused without a 401 for the user (P10)."""

import asyncio
import time

import pytest

from tests import harness
from tests.e2e.entry import Entry
from tests.e2e.line import Line
from tests.e2e.waiting import until

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

ROTATIONS = 8


async def status_of(entry: Entry) -> int:
    """The status of one small request."""
    async with entry.session() as session, session.get(entry.at("/api/v1/namespaces/default")) as answer:
        await answer.read()
        return answer.status


async def test_rotation_costs_no_request(hub_line: Line, light: Entry) -> None:
    pod = hub_line.agents[hub_line.light.name].pod
    statuses: list[int] = []
    rotating = True

    async def ask() -> None:
        async with light.session() as session:
            while rotating:
                async with session.get(light.at("/api/v1/namespaces/default")) as answer:
                    await answer.read()
                    statuses.append(answer.status)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask())
        tokens = {await asyncio.to_thread(pod.rotate) for _ in range(ROTATIONS)}
        rotating = False
    print(f"\n{len(statuses)} requests during {ROTATIONS} rotations")
    assert len(tokens) == ROTATIONS
    assert set(statuses) == {200}


async def test_a_refused_agent_token_is_503_until_a_good_one_is_there(hub_line: Line, light: Entry) -> None:
    name = "expelled"
    async with harness.agent(hub_line.hub, hub_line.light, name=name) as agent:
        entry = hub_line.entry(name)
        assert await status_of(entry) == 200
        good = agent.pod.token_file.read_text()
        # The token is bound to this object: with it gone, the API server takes it no more (after its cache of 10 s).
        deleted = await hub_line.light.kubectl(
            "delete", "pod", agent.pod.pod_name, "-n", "riata-system", "--force", "--grace-period=0"
        )
        deleted.check()
        seen: set[int] = set()

        async def refused() -> bool:
            seen.add(await status_of(entry))
            return 503 in seen

        await until(refused, what="the API server to refuse the agent's token", within=30, every=0.3)
        assert seen <= {200, 503}  # never 401: the user's own credential is good
        async with entry.session() as session, session.get(entry.at("/api")) as answer:
            assert "does not accept the token of the cluster's agent" in (await answer.json())["message"]
        created = await hub_line.light.kubectl(
            "create", "token", "riata-agent", "-n", "riata-system", "--duration=600s"
        )
        partial = agent.pod.token_file.with_name("next")
        partial.write_text(created.check().stdout.strip())
        partial.replace(agent.pod.token_file)
        assert good != agent.pod.token_file.read_text()
        replaced = time.monotonic()

        async def works() -> bool:
            return await status_of(entry) == 200

        await until(works, what="the agent to read its new token", within=30)
        print(f"\nserving {time.monotonic() - replaced:.2f} s after the token was replaced")


async def test_a_token_file_with_nonsense_is_503(hub_line: Line) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="nonsense") as agent:
        entry = hub_line.entry("nonsense")
        assert await status_of(entry) == 200
        partial = agent.pod.token_file.with_name("next")
        partial.write_text("not.a.token")
        partial.replace(agent.pod.token_file)

        async def refused() -> int:
            status = await status_of(entry)
            assert status in {200, 503}
            return status == 503

        await until(refused, what="the agent to use what is in its file", within=30)
        await asyncio.to_thread(agent.pod.rotate)

        async def works() -> bool:
            return await status_of(entry) == 200

        await until(works, what="the agent to read its new token", within=30)
