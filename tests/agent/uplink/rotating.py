"""An agent's keys against a hub's: real schemes, store and commands, over links in memory. No socket, no waiting.

`crash` names a step after which the agent's process is gone; what it kept is all that the next one has.
"""

import asyncio
import contextlib
import datetime

from agent.keys import Kept, KeyConflict
from agent.uplink.credentials import Claims, Proven
from agent.uplink.enrolment import Enrolment
from agent.uplink.keyring import Keyring
from agent.uplink.rotation import KeyRotation
from hub.auth.agents import AgentTokenIndex, Challenge
from hub.auth.issuers import IssuerIndex
from hub.auth.revocation import Revocation
from hub.auth.rotation import KeyRotation as HubRotation
from hub.auth.rotation import ProvenSession
from hub.tunnel.commands import AgentCommands
from hub.tunnel.registry import ClusterFacts, Registry, Tunnel
from proto.aio.commands import CommandServer
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.aio.transport import pipe
from proto.limits import Limits
from proto.messages import AgentAuth, HubHello, Welcome
from proto.session import Role, Session
from tests.hub.auth import enrolling
from tests.proto.pair import shake


class Crash(Exception):
    """The agent's process is gone."""


class Store:
    """The key's place, which survives its agents. `crash_after` counts saves down."""

    place = "the store"

    def __init__(self):
        self.state = None
        self.version = 0
        self.crash_after = None

    async def load(self):
        return Kept(self.state, str(self.version))

    async def save(self, state, version):
        if version != str(self.version):
            raise KeyConflict("changed")
        self.state, self.version = state, self.version + 1
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after == 0:
                raise Crash
        return Kept(state, str(self.version))


class HubSide:
    """The hub: enrolling.World, plus registry, rotation and commands."""

    def __init__(self, world, group):
        self.world, self.group = world, group
        self.registry = Registry()
        self.rotation = HubRotation(world.check, world.keys, world.key_writer, world.follower, world.clock)
        self.commands = AgentCommands(self.registry, self.rotation, world.keys, None, None, None, group)
        self.revocation = Revocation(
            tokens=enrolling.no_index(), grants=enrolling.no_index(), agent_tokens=enrolling.no_index(),
            agent_keys=world.keys, issuers=IssuerIndex(), fault=world.standing(AgentTokenIndex(), None).fault,
            sessions=self.registry, exchanges=enrolling.NoExchanges(), clock=world.clock,
        )  # fmt: skip
        world.keys.on_rotated = self.commands.rotated
        self.nonces = iter(range(1, 1000))


class Agent:
    """One agent process."""

    def __init__(self, hub, store, token_file, *, lifetime_s=1e9):
        self.hub, self.store = hub, store
        self.ring = Keyring(store, hub.world.clock)
        self.rotation = KeyRotation(self.ring, key_lifetime_s=lifetime_s)
        self.enrolment = Enrolment(self.ring, token_file, self.rotation)
        self.instance = next(hub.nonces).to_bytes(16)
        self.link = self.tunnel = self.proven = None

    async def connect(self):
        """One attempt; raises CredentialRefused."""
        world = self.hub.world
        nonce = next(self.hub.nonces).to_bytes(32)
        hello = HubHello(hub_id="hub-1", nonce=nonce, versions=(1, 1), limits=Limits().offer())
        claims = Claims("cluster", self.instance, 1, (enrolling.PIN,))
        await self.enrolment.prepare()
        auth = AgentAuth(
            role="cluster", instance=self.instance, epoch=1, versions=(1, 1), limits=Limits().offer(),
            credential=self.enrolment.present(hello, claims),
        )  # fmt: skip
        challenge = Challenge("hub-1", nonce, "192.0.2.7:1")
        identity = await world.show(auth, challenge)
        self.proven = Proven(hello, claims)
        self._link(identity, challenge)
        uid = identity.cluster_uid
        await self.enrolment.welcomed(
            Welcome(session_id="s", version=1, limits=Limits().offer(), ext={"cluster_uid": uid})
        )

    def _link(self, identity, challenge):
        ours, theirs = pipe()
        one, two = shake()
        group = self.hub.group
        hub_link = Link(Session(Role.HUB, one), theirs, name="hub", on_open=lambda s, k, c, m: hub_server.on_open(s, m))
        self.link = Link(
            Session(Role.AGENT, two), ours, name="agent", on_open=lambda s, k, c, m: agent_server.on_open(s, m)
        )
        self.tunnel = Tunnel(
            identity=identity, instance=self.instance, epoch=1, link=hub_link, address="x", version="1",
            cluster=ClusterFacts("1"), connected_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), session_id="s",
            proven=ProvenSession(identity, challenge, self.instance, 1, identity.key),
        )  # fmt: skip
        hub_server = CommandServer(self.hub.commands.handlers(self.tunnel), group)
        agent_server = CommandServer(self.enrolment.handlers(self.link, self.proven), group)
        self.hub.registry.add(self.tunnel)
        group.spawn(hub_link.run(), name="hub link")
        group.spawn(self.link.run(), name="agent link")

    async def rotate(self):
        await self.rotation.rotate(self.link, self.proven)

    async def crash(self):
        """The process and its connection are gone."""
        if self.link is not None:
            self.link._transport.abort()
            await settled()
            self.hub.registry.remove(self.tunnel)


async def settled():
    """Let everything that is ready run, the store's thread included."""
    for _ in range(20):
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def hub_side(directory):
    async with enrolling.world(directory) as world, TaskGroup("rotating") as group:
        yield HubSide(world, group)
