"""The hub is killed at every write of a cluster's life: creation, join token, join, registrations, rotation,
revocation, deletion; while it revokes a token with its descendants; and of its own: init, and the sealing of its
secrets with a new key. Nothing is left half-made: whoever was cut off repeats the step, and it ends as if nothing had
happened. Needs no Kubernetes."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
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
from proto.aio.commands import CommandServer, call
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.commands import REGISTER_ISSUER, REGISTER_PODS, RegisterIssuer, RegisterPods
from proto.errors import RiataError
from tests.harness import tools
from tests.harness.children import Child
from tests.harness.commands import execute
from tests.harness.failures import HarnessError
from tests.harness.hub_api import HubApi
from tests.harness.hubs import wait_ready_file
from tests.harness.runs import Run
from tests.hub.auth import issuing
from tests.hub.auth.issuing import ISSUER as ISSUER_NAME
from tests.hub.auth.issuing import SUBJECT

pytestmark = [pytest.mark.timeout(400)]

ISSUER = RegisterIssuer(issuer=ISSUER_NAME, jwks=issuing.Cluster("e2e", "ES256").jwks(), subjects=(SUBJECT,))


@dataclass
class Life:
    """One hub, killed as often as somebody likes, and one agent's key file."""

    directory: Path
    ready: dict[str, Any] = field(default_factory=dict)
    child: Child | None = None
    instance: bytes = b"i" * 16
    spare: str = ""
    """Id of a join token that nobody uses."""
    family: str = ""
    """Id of a token with which others were made."""
    tried: set[str] = field(default_factory=set)
    """What was deleted before, or may have been."""

    @property
    def api(self) -> HubApi:
        return HubApi(self.ready["urls"][0], Path(self.ready["ca_file"]), self.directory / "admin.token")

    async def init(self) -> None:
        command = [*tools.console_script("riata-hub", "hub"), "init", "--data", str(self.directory / "data")]
        (await execute([*command, "--admin-token-file", str(self.directory / "admin.token")], timeout=60)).check()

    async def serve(self, failpoint: str, *options: str) -> None:
        port = urlsplit(self.ready["urls"][0]).port if self.ready else 0
        ready_file = self.directory / "ready.json"
        ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.e2e.failpoint", failpoint, "serve"]
        command += ["--data", str(self.directory / "data"), "--listen", f"127.0.0.1:{port}", "--metrics-listen", ""]
        command += ["--ready-file", str(ready_file), *options]
        self.child = Child.start("riata-hub", command, log=self.directory / "hub.log", cwd=tools.REPOSITORY)
        self.ready = await wait_ready_file(ready_file, self.child, 60)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(10)

    def family_left(self) -> list[str]:
        """What the stopped hub's database holds of that token and of what was made with it."""
        with contextlib.closing(sqlite3.connect(self.directory / "data" / "hub.db")) as database:
            found = database.execute("SELECT name, spec FROM resources WHERE kind = 'token'").fetchall()
        return [
            name for name, spec in found if name == self.family or self.family in json.loads(spec).get("lineage", ())
        ]

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

        identity = Identity(self.instance)
        trust = HubTrust(settings)
        return (
            Opener(settings, identity, trust, enrolment, proxy_environment={}, kubernetes=version),
            enrolment,
            rotation,
        )

    # -- steps: each may be repeated

    async def create(self) -> None:
        self.tried.clear()
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

    async def make_spare(self) -> None:
        self.spare = (await self.api.join_token("victim")).split("_")[1]

    async def revoke_spare(self) -> None:
        await self._delete(f"/v1/clusters/victim/join-tokens/{self.spare}")

    async def make_family(self) -> None:
        text = await self.api.user_token("stolen", user="jane")
        self.family = text.split("_")[1]
        token_file = self.directory / "stolen.token"
        token_file.write_text(text)
        thief = HubApi(self.ready["urls"][0], Path(self.ready["ca_file"]), token_file)
        for _ in range(2):
            await thief.user_token("made", user="jane")

    async def revoke_family(self) -> None:
        await self._delete(f"/v1/tokens/{self.family}/with-descendants")

    async def make_agent_token(self) -> None:
        await self.api.agent_token("victim")

    async def grant(self) -> None:
        await self.api.grant("g", user="jane", cluster="victim", role="use")

    async def register(self) -> None:
        """Issuer, and a pod map of two parts that becomes one of one."""
        async with self.agent() as (_, link, _):
            await call(link, REGISTER_ISSUER, ISSUER)
            for parts in (2, 1):
                for part in range(parts):
                    await call(link, REGISTER_PODS, RegisterPods(part=part, parts=parts, pods=(f"pod-{part} node",)))

    async def deny(self) -> None:
        await self.api.call("DELETE", "/v1/agents/victim:node-1")

    async def revoke(self) -> None:
        for each in (await self.api.call("GET", "/v1/agents"))["items"]:
            if each["role"] == "cluster" and each["revokedAt"] is None:
                await self.api.call("DELETE", f"/v1/agents/{each['id']}")

    async def delete(self) -> None:
        await self._delete("/v1/clusters/victim")

    async def _delete(self, path: str) -> None:
        """What was acknowledged is there for the first attempt."""
        may_be_gone = path in self.tried
        self.tried.add(path)
        try:
            await self.api.call("DELETE", path)
        except HarnessError as exc:
            if not (may_be_gone and " 404 " in str(exc)):
                raise

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        """A cluster's whole life, in order."""
        return [
            self.create, self.make_token, self.make_spare, self.revoke_spare, self.make_agent_token, self.grant,
            self.make_family, self.revoke_family, self.join, self.register, self.deny, self.rotate, self.revoke,
            self.delete, self.forget,
        ]  # fmt: skip

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


async def live(a_life: Life) -> None:
    """Every step once."""
    for step in a_life.steps():
        await step()


async def has_died(a_life: Life) -> bool:
    """Whether the hub is dead; a connection may be seen to break before the process is gone."""
    child = a_life.child
    assert child is not None
    for _ in range(20):
        if child.returncode is not None:
            return True
        await asyncio.sleep(0.05)
    return False


async def survives(a_life: Life, failpoint: str, step: Callable[[], Awaitable[None]]) -> bool:
    """A new hub with a failpoint, and a step on it; False when it died, at its start or in the step."""
    await a_life.stop()
    try:
        await a_life.serve(failpoint)
        async with asyncio.timeout(60):
            await step()
    except BROKEN:
        if not await has_died(a_life):
            raise
        return False
    return True


async def test_killed_at_every_write_of_every_step_nothing_is_half_made() -> None:
    """Each step is begun again after a death before and one after each of its writes, those of the start included,
    until it has none left to die at. A repeated step ends as if nothing had happened."""
    deaths: dict[str, int] = {}
    async with life("every-write") as a_life:
        for step in a_life.steps():
            name = step.__name__
            deaths[name] = 0
            # Twice each number: what was written before the death is no write of the next attempt, or it is again.
            for number in (1, 1, 2, 2, 3, 3, *range(4, 20))[: ROUNDS.get(name)]:
                outcomes = [await survives(a_life, f"{number}:{when}", step) for when in ("before", "after")]
                deaths[name] += outcomes.count(False)
                if all(outcomes):
                    break
            assert await survives(a_life, "0:", step)
        assert (await a_life.api.call("GET", "/v1/clusters"))["items"] == []
        assert (await a_life.api.call("GET", "/v1/agents"))["items"] == []
        await a_life.stop()
        records = a_life.records()
        assert {kind for kind in records if kind not in {"hub", "hub-secret", "token", "grant"}} == set()
        assert records["grant"] == 1  # the administrator's
        assert a_life.family_left() == []
    assert [name for name, count in deaths.items() if count < 2] == [], deaths
    assert deaths["revoke_spare"] >= 4, deaths  # it bars the token's use, then deletes the token
    assert deaths["revoke_family"] >= 4, deaths  # it closes the token, revokes two, then deletes it
    assert deaths["delete"] >= 6, deaths


ROUNDS = {"make_token": 1, "make_spare": 1, "make_agent_token": 1, "make_family": 1, "rotate": 1, "register": 3}
"""Of steps that begin something new each time: they would die for ever."""


async def test_killed_at_every_write_of_init_it_is_finished_by_the_next() -> None:
    a_life = Life(Run.current().subdirectory("life-init"))
    command = [sys.executable, "-m", "tests.e2e.failpoint", "", "init", "--if-needed"]
    command += ["--data", str(a_life.directory / "data"), "--admin-token-file", str(a_life.directory / "admin.token")]
    deaths = 0
    for number in (1, 1, 1, 1, 1, 2, 2, 3):  # what was written before a death is no write of the next attempt
        killed = 0
        for when in ("before", "after"):
            command[3] = f"{number}:{when}"
            killed += (await execute(command, timeout=60)).rc == -signal.SIGKILL
        deaths += killed
        if not killed:
            break
    assert deaths >= 10  # hub, check, the CA's copy, grant, token, end
    try:
        await a_life.serve("0:")
        assert (await a_life.api.call("GET", "/v1/clusters"))["items"] == []
    finally:
        await a_life.stop()


async def test_killed_while_secrets_are_sealed_anew_the_next_start_goes_on() -> None:
    async with life("reseal") as a_life:
        keys = [*tools.console_script("riata-hub", "hub"), "keys"]
        data = ["--data", str(a_life.directory / "data")]
        (await execute([*keys, "rotate", *data], timeout=60)).check()
        for when in ("before", "after"):
            await a_life.stop()
            with contextlib.suppress(HarnessError):  # it may die before it was seen to be ready
                await a_life.serve(f"1:{when}")
            assert await has_died(a_life)
        await a_life.serve("0:")
        listed = (await execute([*keys, "list", *data], timeout=60)).check().stdout.split()
        assert listed[listed.index("encrypts") + 1] == "1"  # the CA's copy; the check follows it after a minute
        assert listed[listed.index("decrypts") + 1] == "1"
        await a_life.create()


async def test_a_cluster_lives_and_dies_the_same_over_several_workers() -> None:
    """Each call and each session meets whichever process it meets; the store and its indexes are one."""
    async with life("workers") as a_life:
        await a_life.serve("0:", "--workers", "2")
        for _ in range(3):
            await live(a_life)
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
            key_file = a_life.directory / "agent.key"
            key_file.chmod(0o644)
            for _ in range(12):
                with pytest.raises(HarnessError, match="may be read by others"):  # the agent's own words
                    await a_life.api.call("POST", path)
            key_file.chmod(0o600)
            await a_life.api.call("POST", path)
            (after,) = (await a_life.api.call("GET", "/v1/agents"))["items"]
            assert after["instance"] == shown["instance"]
