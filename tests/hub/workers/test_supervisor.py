"""A hub with two workers as real processes: whichever worker a client meets, it sees one hub."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from proto import frames
from proto.errors import Code
from proto.frames import FrameType
from proto.handshake import AgentHandshake
from proto.limits import Limits
from proto.messages import Credential
from proto.versions import SUBPROTOCOL
from tests.hub.workers.world import PATH, Client, World, until, world
from tests.room import room

WATCH = f"{PATH}/api/v1/pods?watch=1"
ANN = {"user": "ann", "expiresInSeconds": 3600}
UPGRADE = ("Connection: Upgrade", "Upgrade: SPDY/3.1")
CONNECTED = 'riata_hub_cluster_connected{cluster="alpha"}'


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def line_of(client: Client, within: float = 40.0) -> bytes:
    async with asyncio.timeout(within):
        size = int(await client.reader.readline(), 16)
        return (await client.reader.readexactly(size + 2))[:-2]


async def test_reads_writes_watches_and_upgrades_over_either_worker(two: World) -> None:
    for worker in (two.owner, two.other):
        async with two.client(worker) as client:
            assert client.is_hop == (worker != two.owner)
            body = os.urandom(300_000)
            status, _, echoed = await client.whole("POST", f"{PATH}/api/v1/things", body)
            assert (status, echoed == body) == (200, True)
            assert (await client.ask("GET", WATCH))[0] == 200
            for number in range(3):
                two.api.event(number)
                assert b'"n":%d' % number in await line_of(client)
        await until(lambda: two.api.ended, "the API server's watch outlives its client")
        two.api.ended = 0
        two.api.watchers.clear()
        async with two.client(worker) as client:
            status, _ = await client.ask("POST", f"{PATH}/api/v1/namespaces/d/pods/p/exec?command=sh", b"", *UPGRADE)
            assert status == 101
            sent = os.urandom(2_000_000)
            client.writer.write(sent)
            async with asyncio.timeout(40):
                assert await client.reader.readexactly(len(sent)) == sent
    assert two.api.posts == 2
    page = await two.metrics()
    assert page["riata_hub_workers"] == 2
    assert page["riata_hub_hops_total"] > 0
    # One page for all: every request once, wherever it was served and whichever way it took.
    assert page['riata_hub_requests_total{cluster="alpha",code="200",verb="create"}'] == 2
    assert page['riata_hub_sessions{role="cluster"}'] == page[CONNECTED] == 1


async def test_what_one_worker_wrote_every_worker_knows(two: World) -> None:
    for number in range(6):  # connections are spread, so writer and reader differ in some
        status, made = await two.manage("POST", "/v1/tokens", {"name": f"t{number}", **ANN})
        assert status == 201
        grant = {"name": f"g{number}", "user": "ann", "cluster": "alpha", "role": "use"}
        assert (await two.manage("POST", "/v1/grants", grant))[0] == 201
        async with two.connected(made["token"]) as client:
            assert (await client.whole("GET", f"{PATH}/version"))[0] == 200
        assert (await two.manage("DELETE", f"/v1/tokens/{made['id']}"))[0] == 204
        for _ in range(4):
            async with two.connected(made["token"]) as client:
                assert (await client.whole("GET", f"{PATH}/version"))[0] == 401
        assert (await two.manage("DELETE", f"/v1/grants/g{number}"))[0] == 204
    for _ in range(4):
        status, cluster = await two.manage("GET", "/v1/clusters/alpha")
        assert (status, cluster["connected"], len(cluster["tunnels"])) == (200, True, 1)
        assert cluster["tunnels"][0]["rttSeconds"] > 0


async def test_revocation_cuts_in_every_worker_at_once(two: World) -> None:
    _, made = await two.manage("POST", "/v1/tokens", {"name": "t", **ANN})
    await two.manage("POST", "/v1/grants", {"name": "g", "user": "ann", "cluster": "alpha", "role": "use"})
    async with two.client(1, made["token"]) as one, two.client(2, made["token"]) as other:
        for client in (one, other):
            assert (await client.ask("GET", WATCH))[0] == 200
        began = time.monotonic()
        assert (await two.manage("DELETE", f"/v1/tokens/{made['id']}"))[0] == 204
        for client in (one, other):
            await client.clean_end(1.0 * room())  # for it is between two events
        assert time.monotonic() - began < 1.0 * room()


async def test_a_deleted_cluster_is_gone_in_every_worker(two: World) -> None:
    async with two.client(two.other) as client:
        assert (await client.ask("GET", WATCH))[0] == 200
        assert (await two.manage("DELETE", "/v1/clusters/alpha"))[0] == 200
        await client.clean_end(1.0 * room())
    await until(lambda: two.said("session ended", code="REVOKED"), "the agent's session lives on")
    for _ in range(6):
        async with two.connected() as client:
            assert (await client.whole("GET", f"{PATH}/version"))[0] == 403
    assert CONNECTED not in await two.metrics()


async def test_a_worker_that_is_killed_takes_only_its_own_clients_along(two: World) -> None:
    owner, other = two.owner, two.other
    async with two.client(owner) as bystander:
        async with two.client(other) as doomed:
            assert (await doomed.ask("GET", WATCH))[0] == 200
            assert (await bystander.ask("GET", WATCH))[0] == 200
            before, killed = await two.metrics(), two.workers[other]
            os.kill(killed, signal.SIGKILL)
            await doomed.rest(5.0 * room())
        two.api.event(7)
        assert b'"n":7' in await line_of(bystander)
        await until(lambda: two.workers.get(other) not in {None, killed}, "no new worker")
        async with two.client(other) as back:
            assert back.is_hop
        after = await two.metrics()
        assert after["riata_hub_worker_restarts_total"] == 1
        for name in before:
            if name.endswith(("_total", "_count")):  # what the dead one had counted is not forgotten
                assert after[name] >= before[name], name


async def test_the_agents_of_a_killed_worker_come_back(two: World) -> None:
    owner = two.owner
    async with two.client(two.other) as client:
        os.kill(two.workers[owner], signal.SIGKILL)
        began = time.monotonic()
        # On the hop when the other end of it dies, or refused, or served by an agent that is back already.
        assert (await client.whole("GET", f"{PATH}/version"))[0] in {200, 503}
        await until(lambda: len(two.said("session opened")) == 2, "the agent did not come back")
        assert (await client.whole("GET", f"{PATH}/version"))[0] == 200
        assert time.monotonic() - began < 5 * room()
    assert two.hub.returncode is None


async def test_a_change_on_a_lost_hop_is_not_sent_again(two: World) -> None:
    async with two.client(two.other) as client:
        os.kill(two.agent.pid, signal.SIGSTOP)
        asking = asyncio.ensure_future(client.whole("POST", f"{PATH}/api/v1/things", b"{}"))  # noqa: TID251
        await asyncio.sleep(0.3)
        os.kill(two.workers[two.owner], signal.SIGKILL)
        status, fields, body = await asking
        os.kill(two.agent.pid, signal.SIGCONT)
        assert status == 504
        assert "retry-after" not in fields
        assert b"outcome unknown" in body


async def test_a_change_waits_for_a_sign_of_life_over_a_hop_too(two: World) -> None:
    async with two.client(two.other) as client:
        os.kill(two.agent.pid, signal.SIGSTOP)
        await asyncio.sleep(2.5)  # longer than a sign of life counts
        began = time.monotonic()
        status, _, body = await client.whole("POST", f"{PATH}/api/v1/things", b"{}")
        os.kill(two.agent.pid, signal.SIGCONT)
        assert status == 503, body  # not 504: it was never sent
        assert time.monotonic() - began > 1
        await until(lambda: len(two.said("session opened")) == 2, "the agent did not come back")
        assert two.api.posts == 0
        status = 503  # until the other worker has heard of the new session, too
        async with asyncio.timeout(5 * room()):
            while status == 503:
                await asyncio.sleep(0.02)
                status, _, _ = await client.whole("POST", f"{PATH}/api/v1/things", b"{}")
        assert (status, two.api.posts) == (200, 1)


async def test_a_newer_session_supersedes_across_workers(two: World) -> None:
    opened = len(two.said("session opened"))
    token = (two.directory / "agent.token").read_text()
    async with aiohttp.ClientSession() as session:

        async def connect(epoch: int) -> aiohttp.ClientWebSocketResponse:
            import ssl

            context = ssl.create_default_context(cafile=two.ready["ca_file"])
            url = f"{two.ready['url']}/v1/tunnel"
            socket = await session.ws_connect(url, protocols=[SUBPROTOCOL], ssl=context, autoclose=False)
            handshake = AgentHandshake("cluster", b"i" * 16, epoch, Limits())
            handshake.receive_hello(await socket.receive_bytes())
            await socket.send_bytes(handshake.auth(Credential(scheme="bearer", value=token.encode())))
            handshake.receive_answer(await socket.receive_bytes())
            return socket

        places = set()
        socket = await connect(1)
        for epoch in range(2, 30):
            old, socket = socket, await connect(epoch)
            began = time.monotonic()
            assert await goodbye(old) is Code.SUPERSEDED
            assert time.monotonic() - began < 1.0 * room()
            await until(lambda: len(two.said("session opened")) == opened + epoch, "not logged")  # noqa: B023
            places.add(tuple(line["component"] for line in two.said("session opened")[-2:]))
            if len(places) == 4:
                break
        assert {("hub.1", "hub.2"), ("hub.2", "hub.1")} <= places
        await socket.close()


async def goodbye(socket: aiohttp.ClientWebSocketResponse) -> Code:
    """The code of the GOAWAY that ends the session."""
    async with asyncio.timeout(30):
        while True:
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, message
            for kind, _, _, payload in frames.split(message.data):
                if kind == FrameType.GOAWAY:
                    return Code(frames.GOAWAY_PREFIX.unpack_from(payload)[1])


async def test_sigterm_drains_every_worker_and_hops_last_as_long_as_their_requests(two: World) -> None:
    async with two.client(two.other) as watching, two.client(two.other) as typing:
        assert (await watching.ask("GET", WATCH))[0] == 200
        exec_path = f"{PATH}/api/v1/namespaces/d/pods/p/exec?command=sh"
        assert (await typing.ask("POST", exec_path, b"", *UPGRADE))[0] == 101
        two.hub.terminate()
        await watching.clean_end(5.0 * room())
        for _ in range(5):
            typing.writer.write(b"still here")
            async with asyncio.timeout(30):
                assert await typing.reader.readexactly(10) == b"still here"
            await asyncio.sleep(0.1)
        pids = list(two.workers.values())
        typing.writer.write_eof() if typing.writer.can_write_eof() else typing.writer.close()
        async with asyncio.timeout(40):
            assert await two.hub.wait() == 0
    assert not any(map(alive, pids))
    assert two.log[-1]["event"] == "hub stopped"
    assert not [line for line in two.log if line["level"] == "error"]


async def test_no_worker_outlives_the_main_process(two: World) -> None:
    pids = list(two.workers.values())
    two.hub.kill()
    await two.hub.wait()
    await until(lambda: not any(map(alive, pids)), "orphans", within=2.0 * room())
    await two.start_hub()  # and nothing of them is in the way
    async with two.connected() as client:
        assert (await client.whole("GET", "/readyz"))[0] == 200


async def test_encryption_keys_are_followed_by_the_main_process(two: World) -> None:
    two.hub.terminate()
    assert await two.hub.wait() == 0
    rotate = ["hub", "keys", "rotate", "--data", two.directory / "hub"]
    assert await (await two._spawn("rotate.log", rotate, {})).wait() == 0
    await two.start_hub()
    await until(lambda: two.said("sealed anew", left=0), "values stay under the old key")


async def test_a_worker_that_hangs_is_not_waited_for(two: World) -> None:
    _, made = await two.manage("POST", "/v1/tokens", {"name": "t", **ANN})
    hanging = two.workers[two.owner]
    async with two.client(two.other) as client:
        os.kill(hanging, signal.SIGSTOP)
        status, _ = await client.ask("DELETE", f"/v1/tokens/{made['id']}")
        assert status == 204
    assert not alive(hanging)  # it could not be told, so it must not serve
    await until(lambda: len(two.workers) == 2, "no new worker")


async def test_a_second_hub_does_not_join_in_silently(two: World, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    address = two.ready["url"].split("//")[1]
    init = ["hub", "init", "--data", tmp_path / "second" / "hub", "--admin-token-file", tmp_path / "second" / "token"]
    assert await (await two._spawn("second.log", init, {})).wait() == 0
    command = ["hub", "serve", "--data", tmp_path / "second" / "hub", "--workers", "2", "--listen", address]
    process = await two._spawn("second.log", [*command, "--metrics-listen", ""], {})
    async with asyncio.timeout(40):
        assert await process.wait() == 1
    assert "cannot listen" in (tmp_path / "second.log").read_text()
