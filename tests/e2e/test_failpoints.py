"""The hub is killed at every write of a cluster's life: creation, join token, join, rotation, deletion. Nothing is left
half-made: whoever was cut off repeats the step, and it ends as if nothing had happened. Needs no Kubernetes."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from agent import proof
from agent.config import HubSettings
from agent.keys import KeyFile
from agent.uplink.credentials import Proven
from agent.uplink.diagnose import ConnectFailed
from agent.uplink.enrolment import Enrolment
from agent.uplink.keyring import Keyring
from agent.uplink.rotation import KeyRotation
from agent.uplink.session import Identity, Opened, Opener
from agent.uplink.trust import HubTrust
from proto.aio.commands import CommandServer
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.errors import RiataError
from tests.harness import tools
from tests.harness.children import Child
from tests.harness.commands import execute
from tests.harness.failures import HarnessError
from tests.harness.hub_api import HubApi
from tests.harness.hubs import wait_ready_file
from tests.harness.runs import Run

pytestmark = [pytest.mark.timeout(120)]

WRITES = 9
"""Creation, join token, join, rotation, the clean-up's record, the deletion of cluster, join token and agent key, and
the end of that record."""


@dataclass
class Life:
    """One hub, killed once, and one agent's key file."""

    directory: Path
    ready: dict[str, Any] = field(default_factory=dict)
    child: Child | None = None

    @property
    def api(self) -> HubApi:
        return HubApi(self.ready["urls"][0], Path(self.ready["ca_file"]), self.directory / "admin.token")

    async def init(self) -> None:
        command = [*tools.console_script("riata-hub", "hub"), "init", "--data", str(self.directory / "data")]
        (await execute([*command, "--admin-token-file", str(self.directory / "admin.token")], timeout=30)).check()

    async def serve(self, failpoint: str, *options: str) -> None:
        port = urlsplit(self.ready["urls"][0]).port if self.ready else 0
        ready_file = self.directory / "ready.json"
        ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.e2e.failpoint", failpoint, "serve"]
        command += ["--data", str(self.directory / "data"), "--listen", f"127.0.0.1:{port}", "--metrics-listen", ""]
        command += ["--ready-file", str(ready_file), *options]
        self.child = Child.start("riata-hub", command, log=self.directory / "hub.log", cwd=tools.REPOSITORY)
        self.ready = await wait_ready_file(ready_file, self.child, 20)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(10)

    def records(self) -> dict[str, int]:
        """What the stopped hub's database holds, by kind."""
        with contextlib.closing(sqlite3.connect(self.directory / "data" / "hub.db")) as database:
            return dict(database.execute("SELECT kind, count(*) FROM resources GROUP BY kind").fetchall())

    def opener(self) -> tuple[Opener, Enrolment, KeyRotation]:
        """A new agent process, as far as the hub sees: the real code, the same key file and token file."""
        settings = HubSettings(
            url=self.ready["urls"][0],
            ca_pins=(self.ready["ca_pin"],),
            ca_file=Path(self.ready["ca_file"]),
            key_file=self.directory / "agent.key",
            join_token_file=self.directory / "join.token",
        )
        ring = Keyring(KeyFile(self.directory / "agent.key"), proof.wall_clock)
        rotation = KeyRotation(ring, key_lifetime_s=1e9)
        enrolment = Enrolment(ring, settings.join_token_file, rotation)

        async def version() -> str:
            return ""

        identity = Identity(bytes.fromhex("ab" * 16))
        trust = HubTrust(settings)
        return (
            Opener(settings, identity, trust, enrolment, proxy_environment={}, kubernetes=version),
            enrolment,
            rotation,
        )

    # -- steps: each may be repeated

    async def create(self) -> None:
        await self.api.create_cluster("victim")

    async def make_token(self) -> None:
        (self.directory / "join.token").write_text(await self.api.join_token("victim"))

    async def join(self) -> None:
        opener, _, _ = self.opener()
        opened = await _open(opener)
        opened.transport.abort()

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[tuple[KeyRotation, Link, Proven]]:
        """An agent that is connected and does what it is asked."""
        opener, enrolment, rotation = self.opener()
        opened = await _open(opener)
        async with TaskGroup("agent") as group:
            link = Link(opened.session, opened.transport, name="agent", on_open=lambda s, k, c, m: server.on_open(s, m))
            server = CommandServer(enrolment.handlers(link, opened.proven), group)
            group.spawn(link.run(), name="link")
            yield rotation, link, opened.proven

    async def rotate(self) -> None:
        async with self.agent() as (rotation, link, proven):
            rotation._is_wished = True
            await rotation.rotate(link, proven)

    async def delete(self) -> None:
        try:
            await self.api.call("DELETE", "/v1/clusters/victim")
        except HarnessError as exc:
            if " 404 " not in str(exc):
                raise

    async def forget(self) -> None:
        for each in (await self.api.call("GET", "/v1/clean-ups"))["items"]:
            assert each["state"] == "pending"
            await self.api.call("DELETE", f"/v1/clean-ups/{each['id']}")


async def _open(opener: Opener) -> Opened:
    """As the uplink does: what is refused and has something else to show is tried again at once."""
    for _ in range(3):
        try:
            return await opener.open()
        except ConnectFailed as exc:
            if exc.diagnosis.is_slow:
                raise
            last = exc
    raise last


@contextlib.asynccontextmanager
async def life(name: str) -> AsyncIterator[Life]:
    made = Life(Run.current().subdirectory(f"life-{name}"))
    await made.init()
    try:
        yield made
    finally:
        await made.stop()


BROKEN = (OSError, aiohttp.ClientError, HarnessError, ConnectFailed, RiataError, TimeoutError)


async def live(a_life: Life) -> int:
    """Every step once, repeated where the hub died under it; how often it did."""
    deaths = 0
    for step in (a_life.create, a_life.make_token, a_life.join, a_life.rotate, a_life.delete, a_life.forget):
        for _ in range(3):
            try:
                async with asyncio.timeout(20):
                    await step()
                break
            except BROKEN:
                child = a_life.child
                assert child is not None
                if child.returncode is None:
                    await asyncio.sleep(0.2)  # the connection may be seen to break before the process is gone
                if child.returncode is None:
                    raise
                deaths += 1
                await a_life.stop()
                await a_life.serve("0:")
        else:
            pytest.fail(f"{step.__name__} never succeeded")
    return deaths


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
async def test_killed_at_a_write_nothing_is_half_made(number: int, when: str) -> None:
    async with life(f"{number}-{when}") as a_life:
        await a_life.serve(f"{number}:{when}")
        assert await live(a_life) == 1
        await a_life.stop()
        await a_life.serve("0:")
        assert (await a_life.api.call("GET", "/v1/clusters"))["items"] == []
        assert (await a_life.api.call("GET", "/v1/agents"))["items"] == []
        await a_life.stop()
        assert {kind for kind in a_life.records() if kind not in {"hub", "hub-secret", "token", "grant"}} == set()


async def test_a_cluster_lives_and_dies_the_same_over_several_workers() -> None:
    """Each call and each session meets whichever process it meets; the store and its indexes are one."""
    async with life("workers") as a_life:
        await a_life.serve("0:", "--workers", "2")
        for _ in range(3):
            assert await live(a_life) == 0
            (a_life.directory / "agent.key").unlink()
        assert (await a_life.api.call("GET", "/v1/agents"))["items"] == []


async def test_any_worker_has_a_key_replaced() -> None:
    """The agent's session is with one of three workers, and each call of the API meets any of them: whichever it is, it
    is the agent that answers."""
    async with life("any-worker") as a_life:
        await a_life.serve("0:", "--workers", "3")
        await a_life.create()
        await a_life.make_token()
        async with a_life.agent():
            (shown,) = (await a_life.api.call("GET", "/v1/agents"))["items"]
            path = f"/v1/agents/{shown['id']}/rotate-key"
            await a_life.api.call("POST", path)
            for _ in range(12):
                with pytest.raises(HarnessError, match="the last rotation is not over yet"):
                    await a_life.api.call("POST", path)
            (after,) = (await a_life.api.call("GET", "/v1/agents"))["items"]
            assert after["instance"] == shown["instance"]
