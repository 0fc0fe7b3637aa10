"""A hub's management API without sockets: real store, indexes and application, a fake registry, HTTP in memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from hub.api.fetches import FetchLimit
from hub.api.server import build_application
from hub.api.services import Services
from hub.auth.agentkeys import AgentKeyIndex, AgentKeys
from hub.auth.agents import AgentTokenIndex, AgentTokens
from hub.auth.authenticate import Authenticator
from hub.auth.grants import EVERY_CLUSTER, Authorizer, Grant, GrantIndex, Grants, Role
from hub.auth.issuers import IssuerIndex
from hub.auth.jointokens import JoinTokenIndex, JoinTokens
from hub.auth.nodes import DenialIndex, Denials
from hub.auth.revocation import Revocation
from hub.auth.standing import Registrants
from hub.auth.tokens import TokenIndex, Tokens
from hub.carotation import Phase
from hub.catrust import Rotation
from hub.clusters.cleanups import CleanUpIndex, CleanUps
from hub.clusters.nodetable import NodeTables
from hub.clusters.records import ClusterIndex, Clusters
from hub.config import ApiSettings
from hub.edge.handover import HandedOver
from hub.route import Reason
from hub.singleflight import SingleFlight
from hub.store.index import Follower
from hub.store.sqlite import SqliteStore
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.facts import NO_FACTS, NodeFacts
from tests.hub.store.conformance import SettableClock


@dataclasses.dataclass
class FakeTunnel:
    role: str = "cluster"
    node: str = ""
    credential_id: str = "credential"
    instance: str = "ab" * 16
    address: str = "192.0.2.7:1234"
    version: str = "0.1.0"
    kubernetes: str = "v1.37.2"
    connected_since: datetime.datetime = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)
    last_received_age_s: float = 2.0
    rtt_s: float | None = 0.05
    streams: int = 3
    is_eligible: bool = True
    facts: NodeFacts = NO_FACTS


@dataclasses.dataclass
class FakeRoute:
    role: str = "none"
    node: str = ""
    instance: str = ""
    reason: Reason = Reason.NONE_CONNECTED
    since: datetime.datetime | None = None


class FakeTunnels:
    """Registry and relay in one: what was cut is written down."""

    def __init__(self) -> None:
        self.live: dict[str, list[FakeTunnel]] = {}
        self.elsewhere: dict[str, list[FakeTunnel]] = {}
        """What other workers say when they are asked."""
        self.asked: list[tuple[str, float]] = []
        """Of which cluster they were, and how old the answer might have been."""
        self.cuts: list[tuple[str, str]] = []

    async def refresh(self, cluster_uid: str = "", *, within_s: float = 0.0) -> None:
        self.asked.append((cluster_uid, within_s))
        self.live |= self.elsewhere

    def status(self, cluster_uid: str) -> list[FakeTunnel]:
        return self.live.get(cluster_uid, [])

    def route_now(self, cluster_uid: str) -> FakeRoute:
        """The first tunnel of role cluster, else the first that may serve."""
        serving = [each for each in self.live.get(cluster_uid, []) if each.is_eligible]
        for chosen in sorted(serving, key=lambda each: each.role):
            reason = Reason.ONLY if chosen.role == "cluster" else Reason.FALLBACK_ABSENT
            return FakeRoute(chosen.role, chosen.node, chosen.instance, reason, chosen.connected_since)
        return FakeRoute()

    def seen_when(self, credential_id: str) -> datetime.datetime | None:
        return datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC) if credential_id == "seen" else None

    def lost_when(self, cluster_uid: str) -> datetime.datetime | None:
        return None


class FakeSessions:
    def __init__(self, cuts: list[tuple[str, str]]) -> None:
        self._cuts = cuts

    def cut(self, *, cluster_uid: str | None = None, credential_id: str | None = None, code: Code) -> None:
        assert code is Code.REVOKED
        self._cuts.append(("sessions of", cluster_uid or credential_id or ""))

    def cut_faulty(self, fault: object, *, cluster_uid: str | None = None) -> None:
        self._cuts.append(("faulty sessions of", cluster_uid or ""))


class FakeExchanges:
    def __init__(self, cuts: list[tuple[str, str]]) -> None:
        self._cuts = cuts

    def cut(self, *, token_id: str | None = None, cluster_uid: str | None = None) -> None:
        self._cuts.append(("exchanges of", token_id or cluster_uid or ""))

    def recheck(self, cluster_uid: str) -> None:
        self._cuts.append(("recheck", cluster_uid))


class MemoryTransport(asyncio.Transport):
    """Collects what the server writes; tells the protocol when the server closes."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol = protocol
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    interim: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HubWorld:
    """`admin` is the text of a hub administrator's token."""

    def __init__(self, store: SqliteStore, clock: SettableClock, settings: ApiSettings) -> None:
        self.store, self.clock = store, clock
        self.clusters, self.tokens = ClusterIndex(), TokenIndex()
        self.agent_tokens, self.grants = AgentTokenIndex(), GrantIndex()
        self.join_tokens, self.agent_keys, self.denials = JoinTokenIndex(), AgentKeyIndex(), DenialIndex()
        self.clean_ups = CleanUpIndex()
        self.follower = Follower(
            store,
            [
                self.clusters,
                self.clean_ups,
                self.tokens,
                self.agent_tokens,
                self.join_tokens,
                self.agent_keys,
                self.denials,
                self.grants,
            ],
        )
        self.tunnels = FakeTunnels()
        self.failing: list[str] = []
        self.refusals: list[str] = []
        self.rotation_fails = ""
        self.rotation = Rotation(Phase.STEADY, "sha256:" + "a" * 64, ("sha256:" + "a" * 64,), ())
        self.hub_url = "https://hub.test"
        self.pins: set[str] = {"sha256:" + "a" * 64}
        self.joining_pins: list[str] = []
        """Other than `pins`, in their order; empty: those."""
        self.ca = b"PEM"
        self.token_writer = Tokens(store, clock)
        authenticator = Authenticator(self.tokens, self.grants, clock)
        self.services = Services(
            settings=settings,
            clock=clock,
            hub_id="h1",
            ca_pem=lambda: self.ca,
            hub_url=lambda: self.hub_url,
            agent_pins=lambda: self.pins,
            failing_checks=lambda: self.failing,
            follower=self.follower,
            authenticator=authenticator,
            authorizer=Authorizer(self.grants, self.clusters),
            cluster_index=self.clusters,
            token_index=self.tokens,
            agent_token_index=self.agent_tokens,
            join_token_index=self.join_tokens,
            agent_key_index=self.agent_keys,
            denial_index=self.denials,
            denials=Denials(store, clock),
            node_tables=NodeTables(
                store, Registrants(self.agent_tokens, self.agent_keys, clock).is_live, clock, TaskGroup("tables")
            ),
            node_lists=SingleFlight(TaskGroup("lists")),
            grant_index=self.grants,
            clusters=Clusters(store, clock),
            clean_up_index=self.clean_ups,
            clean_ups=CleanUps(store, clock),
            tokens=self.token_writer,
            agent_tokens=AgentTokens(store, clock),
            join_tokens=JoinTokens(store, clock),
            agent_keys=AgentKeys(store, clock),
            grants=Grants(store),
            tunnels=self.tunnels,
            fetches=FetchLimit(clock),
            rotate_key=self._rotate_key,
            joining_pins=lambda: self.joining_pins or sorted(self.pins),
            joining_ca=lambda: self.ca,
            ca_rotation=self._ca_rotation,
            refused=self.refusals.append,
        )
        self.revocation = Revocation(
            tokens=self.tokens,
            grants=self.grants,
            agent_tokens=self.agent_tokens,
            agent_keys=self.agent_keys,
            issuers=IssuerIndex(),
            fault=lambda proven: None,
            sessions=FakeSessions(self.tunnels.cuts),
            exchanges=FakeExchanges(self.tunnels.cuts),
            clock=clock,
        )
        self.clusters.on_gone = lambda cluster: self.revocation.cluster_gone(cluster.uid)
        app = build_application(self.services)
        self.runner = web.AppRunner(app, handle_signals=False)
        self.admin = ""
        self.transport: MemoryTransport
        """Of the newest request."""

    async def _ca_rotation(self) -> Rotation:
        return self.rotation

    async def _rotate_key(self, agent_id: str) -> str:
        self.tunnels.cuts.append(("rotation of", agent_id))
        return self.rotation_fails

    async def mint(
        self, user: str, *groups: str, lifetime_s: float | None = 3600.0, scope: tuple[str, ...] = ()
    ) -> str:
        """A token's text. `scope`: names of clusters."""
        uids = frozenset(uid for name in scope if (uid := self.clusters.uid_of(name))) if scope else None
        _, minted, revision = await self.token_writer.create(
            name="t", user=user, groups=groups, lifetime_s=lifetime_s, created_by="test", cluster_uids=uids
        )
        await self.follower.reached(revision)
        return minted.text

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **more: str
    ) -> Answer:
        """One request with a JSON body. `token` None: the administrator's; empty: none. `more`: header fields."""
        headers = {"Host": "hub", **{name.replace("_", "-"): value for name, value in more.items()}}
        bearer = self.admin if token is None else token
        if bearer:
            headers.setdefault("Authorization", f"Bearer {bearer}")
        content = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return await self.raw(head.encode() + b"\r\n" + content)

    async def raw(
        self,
        request: bytes,
        *,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
        rest: bytes = b"",
        timeout_s: float = 30.0,
    ) -> Answer:
        """Bytes in, the whole answer out; the connection has to end by itself.

        `meanwhile` runs when `request` has been taken in, and `rest` is sent behind it.
        """
        server = self.runner.server
        assert server is not None
        protocol = HandedOver(
            server, "192.0.2.1:4000", lambda: None, lambda peer, error: "", access_log=None, lingering_time=0.05
        )
        self.transport = transport = MemoryTransport(protocol)
        protocol.connection_made(transport)
        protocol.data_received(request)
        if meanwhile is not None:
            for _ in range(8):  # until the handler waits for the body
                await asyncio.sleep(0)
            await meanwhile()
            protocol.data_received(rest)
        try:
            await asyncio.wait_for(transport.closed.wait(), timeout_s)
        finally:
            transport.close()
            await asyncio.sleep(0)
        return _parse(bytes(transport.written))


def _parse(data: bytes) -> Answer:
    interim = b""
    if data.startswith(b"HTTP/1.1 100"):
        interim, _, data = data.partition(b"\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]) if head else 0, headers, body, interim)


@contextlib.asynccontextmanager
async def hub_world(directory: Path, **settings: float) -> AsyncIterator[HubWorld]:
    clock = SettableClock()
    store = await SqliteStore.open(directory / "hub.db", clock=clock)
    world = HubWorld(store, clock, ApiSettings(**settings))  # type: ignore[arg-type]
    async with TaskGroup("world") as tasks:
        await Grants(store).create(Grant("hub-admin", "admin", "", EVERY_CLUSTER, Role.HUB_ADMIN))
        await world.follower.load()
        tasks.spawn(world.follower.run(), name="follower")
        world.admin = await world.mint("admin")
        await world.runner.setup()
        try:
            yield world
        finally:
            await world.runner.cleanup()
            await world.services.finish()
    await store.close()
