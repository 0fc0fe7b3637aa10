"""The agent is killed: what its clients see, how fast the hub says so, and that work goes on afterwards."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests import harness
from tests.e2e import bulk, measures
from tests.e2e.entry import Entry
from tests.e2e.kubectl import MODES
from tests.e2e.line import Line
from tests.e2e.pods import BOX, NAMESPACE, TALKER, WEB, WEB_PORT
from tests.e2e.rawhttp import SMALL_BUFFER, raw_connection
from tests.room import room

pytestmark = [pytest.mark.alone, pytest.mark.full, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

DOOMED = "doomed"


@pytest_asyncio.fixture(loop_scope="session")
async def doomed(hub_line: Line, full: Entry) -> AsyncIterator[tuple[harness.Agent, Entry]]:
    """A second registration of the full cluster, whose agent a test may kill."""
    assert hub_line.full is not None
    async with harness.agent(hub_line.hub, hub_line.full, name=DOOMED, options=("--drain-grace", "2")) as agent:
        yield agent, hub_line.entry(DOOMED).inside(NAMESPACE)


async def test_a_body_cut_short_is_a_broken_transfer(doomed: tuple[harness.Agent, Entry]) -> None:
    agent, entry = doomed
    await bulk.ensure_bulk(entry)
    async with raw_connection(entry, receive_buffer=SMALL_BUFFER) as connection:
        await connection.request("GET", bulk.LIST, "Accept-Encoding: identity")
        head = await connection.head(60)
        assert head.status == 200
        agent.kill()
        read = b""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            read = await connection.rest(30)
    # Neither the last chunk nor the announced length: no client can take it for the whole.
    assert not read.endswith(b"0\r\n\r\n")
    assert len(read) < bulk.BYTES
    killed = time.monotonic()
    async with entry.session() as session:
        samples = []
        for _ in range(20):
            sent = time.monotonic()
            async with session.get(entry.at("/api/v1/namespaces")) as answer:
                status = await answer.json()
                assert (answer.status, status["reason"]) == (503, "ServiceUnavailable")
                assert answer.headers["Retry-After"] == "1"  # lost less than 30 s ago, nothing was sent (P2)
            samples.append(time.monotonic() - sent)
        print(f"\n503 after the loss: {measures.shown(samples)}")
        assert measures.quantile(samples, 0.9) < 0.05 * room()
        await agent.restart()
        async with session.get(entry.at("/api/v1/namespaces")) as answer:
            assert answer.status == 200
    print(f"killed agent replaced and serving after {time.monotonic() - killed:.1f} s")


async def test_kubectl_and_libraries_notice_a_cut(doomed: tuple[harness.Agent, Entry]) -> None:
    agent, entry = doomed
    await bulk.ensure_bulk(entry)
    async with entry.session() as session, entry.kubectl.running("get", "--raw", bulk.LIST) as raw:
        watch = await session.get(entry.at(f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&resourceVersion=0"))
        follow = await session.get(entry.at(f"/api/v1/namespaces/{NAMESPACE}/pods/{TALKER}/log?follow=true"))
        assert {watch.status, follow.status} == {200}
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&resourceVersion=0"
        socket = await session.ws_connect(entry.at(path), origin="https://browser.example")
        seen = await socket.receive(timeout=10)
        assert raw.process.stdout is not None
        async with asyncio.timeout(30):
            assert await raw.process.stdout.read(1000)
        first = json.loads(await watch.content.readline())
        agent.kill()
        with pytest.raises(aiohttp.ClientError):  # a clean end would return
            await follow.read()
        # Between two events a watch ends as the API server itself ends a watch (P11): clients go on from the last one.
        rest = await watch.read()
        while seen.type is aiohttp.WSMsgType.TEXT:
            assert json.loads(seen.data)["type"] == "ADDED"
            seen = await socket.receive(timeout=10)
        assert (seen.type, seen.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.OK)
        result = await raw.end(30)
    assert first["type"] == "ADDED"
    assert rest == b"" or rest.endswith(b"\n")
    assert {json.loads(line)["type"] for line in rest.splitlines()} <= {"ADDED", "MODIFIED", "DELETED"}
    assert result.rc != 0
    print(f"\nkubectl get --raw of a cut body: exit code {result.rc}, {result.stderr.strip()!r}")


async def test_an_unreachable_cluster_is_said_at_once(hub_line: Line) -> None:
    await hub_line.api.must("POST", "/v1/clusters", {"name": "ghost", "labels": {}})
    ghost = hub_line.entry("ghost")
    samples = []
    async with ghost.session() as session:
        for _ in range(50):
            sent = time.monotonic()
            async with session.get(ghost.at("/api")) as answer:
                assert answer.status == 503
                assert "Retry-After" not in answer.headers  # never connected: kubectl must fail at once
                await answer.read()
            samples.append(time.monotonic() - sent)
    print(f"\n503 of a disconnected cluster: {measures.shown(samples)}")
    assert measures.quantile(samples, 0.99) < 0.05 * room()
    started = time.monotonic()
    result = await ghost.kubectl("get", "pods", rc=1)
    # kubectl's own words for every 503; it shows the Status's message only with -v=8.
    assert "the server is currently unable to handle the request" in result.stderr
    assert time.monotonic() - started < 5 * room()


async def test_a_mutation_that_may_have_arrived_is_504_without_retry(doomed: tuple[harness.Agent, Entry]) -> None:
    agent, entry = doomed
    async with entry.session() as session:
        async with session.get(entry.at("/api")) as answer:
            assert answer.status == 200
        os.kill(agent.pid, signal.SIGSTOP)
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "perhaps"}}
        url = entry.at(f"/api/v1/namespaces/{NAMESPACE}/configmaps?dryRun=All")

        async def post() -> tuple[int, dict[str, str], str]:
            async with session.post(url, json=document) as answer:
                return answer.status, dict(answer.headers), await answer.text()

        posting = asyncio.gather(post())
        await asyncio.sleep(0.5)
        agent.kill()
        [(status, headers, text)] = await posting
    assert status == 504, text
    assert "Retry-After" not in headers
    assert "outcome unknown" in text


LOST = "riata: the connection to the cluster's agent was lost"
LEFT = "riata: the cluster's agent was shut down"


@pytest.mark.parametrize("mode", MODES)
async def test_what_kubectl_says_of_a_cut_exec(doomed: tuple[harness.Agent, Entry], mode: str) -> None:
    agent, entry = doomed
    kubectl = entry.kubectl.over(mode)
    quiet = ("exec", "-i", BOX, "--", "sh", "-c", "echo ready; cat")
    busy = ("exec", "-i", BOX, "--", "sh", "-c", "echo ready; exec yes")
    async with kubectl.running(*quiet) as quiet_shell, kubectl.running(*busy) as busy_shell:
        assert (await quiet_shell.line(), await busy_shell.line()) == ("ready", "ready")

        async def kill() -> None:
            await asyncio.sleep(0.3)
            agent.kill()

        quiet_end, busy_end, _ = await asyncio.gather(quiet_shell.end(20), busy_shell.end(20), kill())
    for result in (quiet_end, busy_end):
        print(f"\nkubectl exec cut over {mode}: exit code {result.rc}: {result.stderr.strip()[-160:]!r}")
        assert result.rc == 1
        assert LOST in result.stderr
    assert len(busy_end.raw) > 100_000


async def test_an_exec_that_outlives_its_agents_grace_is_told_so(doomed: tuple[harness.Agent, Entry]) -> None:
    agent, entry = doomed
    command = ("exec", "-i", BOX, "--", "sh", "-c", "echo ready; cat")
    async with contextlib.AsyncExitStack() as stack:
        shells = [await stack.enter_async_context(entry.kubectl.over(mode).running(*command)) for mode in MODES]
        assert [await shell.line() for shell in shells] == ["ready", "ready"]
        os.kill(agent.pid, signal.SIGTERM)
        await asyncio.sleep(1)
        for shell in shells:
            await shell.send(b"still here\n")
            assert await shell.line() == "still here"
        for shell in shells:
            result = await shell.end(15)
            assert result.rc == 1
            assert LEFT in result.stderr


@pytest.mark.parametrize("mode", MODES)
async def test_a_cut_port_forward_ends_kubectl(doomed: tuple[harness.Agent, Entry], mode: str) -> None:
    agent, entry = doomed
    forward = ("port-forward", "--address=127.0.0.1", f"pod/{WEB}", f":{WEB_PORT}")
    async with entry.kubectl.over(mode).running(*forward) as forwarding:
        await forwarding.line()
        agent.kill()
        result = await forwarding.end(20)
    print(f"\nkubectl port-forward cut over {mode}: exit code {result.rc}: {result.stderr.strip()!r}")
    assert result.rc == 1
    assert "lost connection to pod" in result.stderr
