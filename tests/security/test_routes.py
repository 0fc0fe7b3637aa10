"""Which agents a request can reach: a node agent that may not serve never sees one, whatever it says (design D5)."""

from __future__ import annotations

import asyncio

import pytest

from proto.errors import Code
from tests.security import rig
from tests.security.rig import BOSS_AUTH, HOST, Line, ScriptedAgent, get, status_of

UPGRADE = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
PODS = b"/k8s/clusters/c1/api/v1/namespaces/n/pods"
BODY = b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
REQUESTS = {
    "get": get(PODS + b"/p", b"Connection: close\r\n"),
    "watch": get(PODS + b"?watch=1", b"Connection: close\r\n"),
    "change": b"POST "
    + PODS
    + b" HTTP/1.1\r\n"
    + HOST
    + rig.AUTH
    + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
    "exec": b"POST " + PODS + b"/p/exec HTTP/1.1\r\n" + HOST + rig.AUTH + UPGRADE + b"\r\n",
}


async def lose(line: Line, agent: ScriptedAgent) -> None:
    """The agent's session breaks, and the hub knows."""
    agent.transport.abort()
    async with asyncio.timeout(30):
        while line.registry.of_cluster("uid-c1"):  # noqa: ASYNC110 the registry has no event
            await asyncio.sleep(0)


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_node_agent_that_may_not_serve_never_sees_a_request(name: str) -> None:
    async with rig.line() as line:
        spy = await line.add_agent(node="n1")
        assert status_of(await line.ask(REQUESTS[name])) == 503
        cluster_agent = await line.add_agent()
        assert status_of(await line.ask(get(PODS, b"Connection: close\r\n"))) == 200
        await lose(line, cluster_agent)
        answer = await line.ask(REQUESTS[name])
        assert status_of(answer) == 503
        assert b"not connected" in answer
        assert spy.seen == []


@pytest.mark.parametrize("is_lost", [False, True], ids=["refused", "lost"])
async def test_nor_one_that_another_agent_lost_or_refused(is_lost: bool) -> None:
    async with rig.line() as line:
        spy, cluster_agent = await line.add_agent(node="n1"), await line.add_agent()

        def fail(seen: rig.Seen) -> None:
            if is_lost:
                cluster_agent.transport.abort()
            else:
                seen.stream.reset(Code.REFUSED, "busy")

        cluster_agent.script = fail
        assert status_of(await line.ask(get(PODS, b"Connection: close\r\n"))) in (429, 503)
        assert spy.seen == []


async def test_the_fallback_serves_what_the_cluster_agent_lost_and_only_then() -> None:
    async with rig.line() as line:
        fallback = await line.add_agent(node="n2", is_fallback=True)
        spy, cluster_agent = await line.add_agent(node="n1"), await line.add_agent()
        ask = get(PODS, b"Connection: close\r\n")
        assert status_of(await line.ask(ask)) == 200
        assert fallback.seen == []
        cluster_agent.script = lambda seen: cluster_agent.transport.abort()
        answer = await line.ask(get(PODS, b"Connection: close\r\n", auth=BOSS_AUTH))
        assert status_of(answer) == 200
        assert b"\r\nriata-route: node/n2; reason=fallback-retry; attempts=2\r\n" in answer
        answer = await line.ask(ask)
        assert status_of(answer) == 200
        assert b"riata-route" not in answer  # alice does not administer the cluster
        assert (len(fallback.seen), spy.seen) == (2, [])


async def test_a_cluster_cannot_forge_the_field_that_names_the_route() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        agent.script = lambda seen: seen.answer(200, b"ok", (b"riata-route", b"node/forged"))
        for auth, expected in ((rig.AUTH, 0), (BOSS_AUTH, 1)):
            answer = await line.ask(get(PODS, b"Connection: close\r\n", auth=auth))
            assert b"forged" not in answer
            assert answer.count(b"riata-route") == expected
