"""Commands at the hub: each verb concerns the session's own agent, whoever else there is (F1).

The rotation over links is played in tests/agent/uplink/test_rotation.py; here every verb meets every other identity.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.auth.agentkeys import AgentKeyIndex, AgentKeys
from hub.auth.issuers import IssuerIndex, Issuers
from hub.auth.nodes import DenialIndex, NodeTokens
from hub.auth.pods import PodIndex, Pods
from hub.auth.registrations import Registrations
from hub.auth.rotation import KeyRotation, ProvenSession
from hub.clusters.nodetable import KIND, PART_KIND, NodeTables
from hub.store.interface import Store
from hub.store.model import Listing, Resource, StoreUnavailable
from hub.store.writer import FAILURES_BURST, FAILURES_PER_S
from hub.tunnel.commands import (
    TOKENS_BURST,
    TOKENS_PER_S,
    UNFINISHED_MAX,
    AgentCommands,
)
from hub.tunnel.registry import Registry, Tunnel
from hub.tunnel.writerate import BURST, WriteRate
from proto.aio.commands import Handler
from proto.aio.tasks import TaskGroup
from proto.commands import (
    PRESENT_TOKEN,
    REGISTER_ISSUER,
    REGISTER_PODS,
    RENEW_TOKEN,
    REPLACE_KEY,
    TELL_VERSION,
    VERBS,
    Fields,
    PresentToken,
    RegisterIssuer,
    RegisterNodes,
    RegisterPods,
    RenewToken,
    TellVersion,
    Verb,
)
from proto.errors import Code, RiataError, StreamReset
from proto.nodetable import NodeRow, Part, divide, to_args
from proto.tokenrenewal import difference, signed_part
from tests.harness.records import captured
from tests.hub.auth import enrolling
from tests.hub.auth.enrolling import CHALLENGE, World
from tests.hub.auth.issuing import HUB_ID, ISSUER, SUBJECT, Cluster
from tests.hub.auth.test_rotation import NEW, OLD, request, session
from tests.hub.tunnel.test_registry import Rig

ASKED_BY_AGENTS = [verb for verb in VERBS.values() if verb.by == "agent"]


ENDS = 1_000_700.0
"""When the freshest token ends, a hundred seconds after those that the sessions began with."""


TABLE = divide([NodeRow("node-1", kubelet="v1.37.2")])


class Scene:
    """Two clusters with a cluster agent and a node agent each; `victim` is uid-a."""

    def __init__(self, world: World, tasks: TaskGroup, store: Any = None) -> None:
        """`store`: what is written goes there, instead of the world's."""
        self.world, store = world, store or world.store
        self.a, self.b = Cluster("uid-a", "ES256"), Cluster("uid-b", "ES256")
        self.issuers, self.denials = IssuerIndex(), DenialIndex()
        self.nodes = NodeTokens(self.issuers, self.denials, PodIndex(), world.names, lambda uid, who: True, world.clock)
        self.rig = Rig()
        keys = AgentKeys(store, world.clock)
        rotation = KeyRotation(world.check, world.keys, keys, world.follower, world.clock)
        writers = Registrations(Issuers(store, world.clock), Pods(store))
        self.tables = NodeTables(world.store, lambda uid, who: True, world.clock, tasks)
        self.commands = AgentCommands(
            self.rig.registry, rotation, world.keys, writers, self.tables, self.nodes, tasks, lambda: self.rig.now
        )

    async def register(self) -> None:
        for cluster in (self.a, self.b):
            args = RegisterIssuer(issuer=ISSUER, jwks=cluster.jwks(), subjects=(SUBJECT,))
            await Issuers(self.world.store, self.world.clock).register(cluster.uid, "agent", args)
        self.issuers.reset((await self.world.store.list("token-issuer")).items)

    async def tell_nodes(self, by: str) -> None:
        """The agent with credential `by` has told a node of uid-a."""
        (part,) = TABLE
        await self.tables.register("uid-a", by, RegisterNodes(total=1, tags=(part.tag,)))
        await self.tables.tell("uid-a", by, to_args(0, part))

    def node(self, cluster: Cluster, node: str) -> ProvenSession:
        bound = {"pod": {"uid": f"pod-of-{node}"}, "node": {"name": node}}
        token = cluster.token(self.world.clock.now, **{"kubernetes.io": bound})
        identity = self.nodes.identity(token, HUB_ID)
        shown = signed_part(token.decode())
        return ProvenSession(identity, CHALLENGE, b"i" * 16, 1, b"", identity.expires_at, identity.rests_on, shown)

    def tunnel(self, proven: ProvenSession) -> Tunnel:
        tunnel, _ = self.rig.tunnel()
        return dataclasses.replace(tunnel, identity=proven.identity, proven=proven)

    async def timed_node(self) -> tuple[Tunnel, Mapping[Verb, Handler]]:
        """A node agent of uid-a, and what it may ask, by the rig's clock."""
        await self.register()
        tunnel = self.tunnel(self.node(self.a, "node-1"))
        return tunnel, self.commands.handlers(tunnel)

    def worst(self, verb: Verb) -> Fields:
        """The arguments with which somebody else would do the most harm to the agents of uid-a."""
        bound = {"pod": {"uid": "pod-of-node-1"}, "node": {"name": "node-1"}}
        later = self.a.token(self.world.clock.now, exp=int(ENDS), **{"kubernetes.io": bound})
        made: dict[str, Fields] = {
            "replace-key": request(self.world, old=OLD, new=NEW),
            "register-issuer": RegisterIssuer(issuer=ISSUER, jwks=self.b.jwks(), subjects=(SUBJECT,)),
            "register-pods": RegisterPods(part=0, parts=1, pods=("pod-of-node-1 node-2",)),
            "register-nodes": RegisterNodes(total=0, tags=("0" * 16,)),
            "tell-nodes": to_args(0, Part(TABLE[0].tag, (NodeRow("forged", is_fallback=True),))),
            "tell-version": TellVersion(kubernetes="v0.0.0-forged"),
            "present-token": PresentToken(token=later.decode()),
            "renew-token": _changes(self.node(self.a, "node-1").token, later.decode()),
        }
        return made[verb.name]  # a new verb has no arguments here yet: add the worst that it could be asked

    async def kept(self) -> list[Resource]:
        """Everything that the store holds of uid-a."""
        kinds = ("agent-key", "token-issuer", "node-denial", "node-pods", "join-token", "agent-token", KIND, PART_KIND)
        return [item for kind in kinds for item in (await self.world.store.list(kind, cluster="uid-a")).items]


OTHERS = ["cluster agent of uid-b", "node agent of uid-b", "another cluster agent of uid-a", "node-2 of uid-a"]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("verb", ASKED_BY_AGENTS, ids=lambda verb: verb.name)
async def test_every_verb_with_every_other_identity_changes_nothing(tmp_path: Path, verb: Verb, other: str) -> None:
    about_its_cluster = {"register-issuer", "register-pods", "register-nodes", "tell-nodes", "tell-version"}
    if verb.name in about_its_cluster and other == "another cluster agent of uid-a":
        return  # every agent of role cluster speaks for its cluster
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        await scene.register()
        victims = [await session(world, OLD), scene.node(scene.a, "node-1")]
        await scene.tell_nodes(victims[0].identity.credential_id)
        seed = bytes(range(40, 72))
        attacker = {
            "cluster agent of uid-b": lambda: session(world, seed, "uid-b"),
            "another cluster agent of uid-a": lambda: session(world, seed, "uid-a"),
            "node agent of uid-b": lambda: _now(scene.node(scene.b, "node-1")),
            "node-2 of uid-a": lambda: _now(scene.node(scene.a, "node-2")),
        }[other]
        tunnel = scene.tunnel(await attacker())
        before, proven = await scene.kept(), [dataclasses.replace(victim) for victim in victims]
        with contextlib.suppress(RiataError):
            await scene.commands.handlers(tunnel)[verb](scene.worst(verb))
            # Only this is not refused: a cluster's agent may say what it likes about its own cluster.
            assert verb.name in about_its_cluster
            assert other == "cluster agent of uid-b"
        assert await scene.kept() == before
        assert victims == proven
        assert await world.show(world.sign(OLD)) == victims[0].identity


def _changes(before: str, token: str) -> RenewToken:
    changes = difference(before, token)
    assert changes is not None
    return changes


async def _now(proven: ProvenSession) -> ProvenSession:
    return proven


async def test_a_node_goes_on_with_its_own_fresher_token(tmp_path: Path) -> None:
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        await scene.register()
        tunnel = scene.tunnel(scene.node(scene.a, "node-1"))
        present = scene.commands.handlers(tunnel)[PRESENT_TOKEN]
        assert tunnel.proven.expires_at == ENDS - 100
        renew = scene.commands.handlers(tunnel)[RENEW_TOKEN]
        await renew(scene.worst(RENEW_TOKEN))
        assert tunnel.proven.expires_at == ENDS
        tunnel.proven.expires_at = ENDS - 100
        with pytest.raises(StreamReset) as caught:  # what differs from another token than the last one
            await renew(RenewToken(at=(70,), texts=("AAAA",), signature="x"))
        assert caught.value.code is Code.UNAUTHENTICATED
        assert tunnel.proven.expires_at == ENDS - 100
        await present(scene.worst(PRESENT_TOKEN))
        assert tunnel.proven.expires_at == ENDS
        for bad in (PresentToken(token="x"), PresentToken(token=scene.b.token(world.clock.now).decode())):
            with pytest.raises(StreamReset):
                await present(bad)
        assert tunnel.proven.expires_at == ENDS


async def test_no_token_makes_a_session_one_that_may_serve(tmp_path: Path) -> None:
    """Eligibility comes with a handshake; a token that is presented later changes only when the session ends."""
    fallback = f"{SUBJECT}-fallback"
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        args = RegisterIssuer(issuer=ISSUER, jwks=scene.a.jwks(), subjects=(SUBJECT, fallback), fallback=fallback)
        await Issuers(world.store, world.clock).register("uid-a", "agent", args)
        scene.issuers.reset((await world.store.list("token-issuer")).items)
        tunnel = scene.tunnel(scene.node(scene.a, "node-1"))
        bound = {"pod": {"uid": "pod-of-node-1"}, "node": {"name": "node-1"}}
        better = scene.a.token(world.clock.now, exp=int(ENDS), sub=fallback, **{"kubernetes.io": bound})
        assert scene.nodes.identity(better, HUB_ID).is_fallback
        with pytest.raises(StreamReset, match="another agent's"):
            await scene.commands.handlers(tunnel)[PRESENT_TOKEN](PresentToken(token=better.decode()))
        assert not tunnel.identity.is_fallback
        assert not tunnel.candidate.is_eligible
        assert tunnel.proven.expires_at == ENDS - 100


def test_every_verb_of_agents_is_served_and_no_other(tmp_path: Path) -> None:
    rig = Rig()
    tunnel, _ = rig.tunnel()
    commands = AgentCommands(rig.registry, None, None, None, None, None, None)  # type: ignore[arg-type] # asked for its table only
    assert set(commands.handlers(tunnel)) == set(ASKED_BY_AGENTS)


async def test_an_agent_that_is_not_connected_rotates_nothing() -> None:
    commands = AgentCommands(Registry(), None, None, None, None, None, None)  # type: ignore[arg-type] # nobody is asked
    commands._keys = AgentKeyIndex()
    assert await commands.rotate_key("x") == "it is not connected"
    commands.rotated("x")


async def test_the_version_that_an_agent_tells_is_that_of_its_own_session(tmp_path: Path) -> None:
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        await scene.register()
        node = scene.tunnel(scene.node(scene.a, "node-1"))
        mine, _ = scene.rig.tunnel(2)
        twin, _ = scene.rig.tunnel(3)
        await scene.commands.handlers(mine)[TELL_VERSION](TellVersion(kubernetes="v1.38.0"))
        assert [each.kubernetes for each in scene.rig.registry.status("uid-c1")] == ["v1.37", "v1.38.0", "v1.37"]
        with pytest.raises(StreamReset) as refused:
            await scene.commands.handlers(node)[TELL_VERSION](TellVersion(kubernetes="v1.38.0"))
        assert (refused.value.code, node.cluster.kubernetes) == (Code.FORBIDDEN, "v1.37")
        assert twin.cluster.kubernetes == "v1.37"


async def test_a_node_goes_on_with_a_token_of_its_clusters_next_signing_key(tmp_path: Path) -> None:
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        await scene.register()
        tunnel = scene.tunnel(scene.node(scene.a, "node-1"))
        rested_on = tunnel.proven.rests_on
        scene.a.rotate()
        await scene.register()
        await scene.commands.handlers(tunnel)[PRESENT_TOKEN](scene.worst(PRESENT_TOKEN))
        assert tunnel.proven.rests_on != rested_on
        assert scene.nodes.vouches("uid-a", tunnel.proven.rests_on)


@pytest.mark.parametrize(
    "verb", [verb for verb in ASKED_BY_AGENTS if verb not in {PRESENT_TOKEN, RENEW_TOKEN}], ids=lambda v: v.name
)
async def test_a_cluster_whose_agents_write_in_a_loop_is_held_back(tmp_path: Path, verb: Verb) -> None:
    """The attack: two maps that differ, told in turn for ever, and the one writer of the store serves nobody else."""
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        await scene.register()
        tunnel = scene.tunnel(await session(world, OLD))
        scene.commands._writes = WriteRate(lambda: 100.0)
        handler = scene.commands.handlers(tunnel)[verb]
        outcomes = [await _outcome(handler(scene.worst(verb))) for _ in range(int(BURST) + 5)]
        assert [code for code in outcomes[-5:] if code is not Code.OVERLOADED] == []
        assert Code.OVERLOADED not in outcomes[: int(BURST)]
        proven = await session(world, bytes(range(40, 72)), "uid-b")
        other = dataclasses.replace(tunnel, identity=proven.identity, proven=proven)
        assert await _outcome(scene.commands.handlers(other)[verb](scene.worst(verb))) is not Code.OVERLOADED


@pytest.mark.parametrize("verb", [PRESENT_TOKEN, RENEW_TOKEN], ids=lambda verb: verb.name)
async def test_a_node_agent_that_presents_tokens_in_a_loop_has_few_of_them_checked(tmp_path: Path, verb: Verb) -> None:
    """The attack: each is a signature that the event loop of the hub checks."""
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        tunnel, handlers = await scene.timed_node()
        outcomes = [await _outcome(handlers[verb](scene.worst(verb))) for _ in range(20)]
        taken = outcomes.index(Code.OVERLOADED)
        assert TOKENS_BURST - 1 <= taken <= TOKENS_BURST
        assert set(outcomes[taken:]) == {Code.OVERLOADED}
        proven = scene.node(scene.a, "node-2")
        other = scene.commands.handlers(dataclasses.replace(tunnel, identity=proven.identity, proven=proven))
        assert await _outcome(other[verb](scene.worst(verb))) is not Code.OVERLOADED
        scene.rig.now += 480  # as a kubelet renews
        assert await _outcome(handlers[verb](scene.worst(verb))) is not Code.OVERLOADED


async def test_an_agent_whose_changes_are_always_refused_still_comes_to_say_its_token_whole(tmp_path: Path) -> None:
    """As it goes on: the changes, then the whole token, every five seconds."""
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks)
        tunnel, handlers = await scene.timed_node()
        wrong = RenewToken(at=(70,), texts=("AAAA",), signature="x")  # of another token than the hub took last
        foreign = PresentToken(token=scene.b.token(world.clock.now).decode())  # its key is not registered yet
        whole = []
        for _ in range(24):
            await _outcome(handlers[RENEW_TOKEN](wrong))
            whole.append(await _outcome(handlers[PRESENT_TOKEN](foreign)))
            scene.rig.now += 5.0
        assert sum(code is not Code.OVERLOADED for code in whole[-12:]) == 60 * TOKENS_PER_S
        scene.rig.now += 5.0
        assert await _outcome(handlers[PRESENT_TOKEN](scene.worst(PRESENT_TOKEN))) is None
        assert tunnel.proven.expires_at == ENDS


class Leaving:
    """The store; a command that has come to its write is taken back before the disk has it."""

    def __init__(self, store: Store, tasks: TaskGroup) -> None:
        self.store, self.tasks = store, tasks
        self.leave: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def put(self, resource: Resource, *, lease: int = 0) -> Resource:
        writing = self.tasks.spawn(self.store.put(resource, lease=lease), name="write")
        self.leave()
        return await asyncio.shield(writing)


@pytest.mark.parametrize(
    ("verb", "event"),
    [
        (REPLACE_KEY, "agent-key-replaced"),
        (REGISTER_ISSUER, "issuer-registered"),
        (REGISTER_PODS, "pods-registered"),
    ],
    ids=lambda each: each.name if isinstance(each, Verb) else each,
)
async def test_what_an_agent_writes_is_audited_though_it_takes_its_command_back(
    tmp_path: Path, verb: Verb, event: str
) -> None:
    """The attack: whoever has stolen a key registers an issuer of their own and is gone before the answer."""
    async with enrolling.world(tmp_path) as world, TaskGroup("store") as writes, TaskGroup("commands") as tasks:
        store = Leaving(world.store, writes)
        scene = Scene(world, tasks, store)
        await scene.register()
        tunnel = scene.tunnel(await session(world, OLD))
        with captured("riata.audit") as logged:
            handler = scene.commands.handlers(tunnel)[verb]
            asking = writes.spawn(_outcome(handler(scene.worst(verb))), name="asking")
            store.leave = asking.cancel
            await asyncio.wait([asking])
            assert asking.cancelled()
            await writes.wait()
            await tasks.wait()
        assert [each["event"] for each in logged] == [event]


class Full:
    """A store on a disk that is full: it is read, and takes nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def put(self, resource: Resource, *, lease: int = 0) -> Resource:
        raise StoreUnavailable("the store could not write; the hub's log says why")


async def test_a_full_disk_does_not_fill_the_log_with_what_agents_say(tmp_path: Path) -> None:
    async with enrolling.world(tmp_path) as world, TaskGroup("commands") as tasks:
        scene = Scene(world, tasks, Full(world.store))
        await scene.register()
        handler = scene.commands.handlers(scene.tunnel(await session(world, OLD)))[REGISTER_PODS]
        with captured("hub.tunnel.commands") as logged:
            outcomes = [await _outcome(handler(scene.worst(REGISTER_PODS))) for _ in range(20)]
            assert outcomes == [Code.OVERLOADED] * 20
            assert len(logged) == FAILURES_BURST
            scene.rig.now += 1 / FAILURES_PER_S
            await _outcome(handler(scene.worst(REGISTER_PODS)))
        assert len(logged) == FAILURES_BURST + 1
        assert (logged[-1]["event"], logged[-1]["suppressed"]) == ("an agent's word could not be stored", 15)
        assert logged[-1]["cluster"] == logged[0]["cluster"]


class Stuck:
    """A store that does not come to reading."""

    def __init__(self, store: Store) -> None:
        self.store, self.may_read = store, asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        await self.may_read.wait()
        return await self.store.list(kind, cluster=cluster)


async def test_who_takes_commands_back_has_no_more_of_them_worked_on_at_once(tmp_path: Path) -> None:
    """The attack: six hundred tables of nodes, each taken back at once, and nobody else comes to read the store."""
    async with enrolling.world(tmp_path) as world, TaskGroup("agent") as agent, TaskGroup("commands") as tasks:
        store = Stuck(world.store)
        scene = Scene(world, tasks, store)
        await scene.register()
        handler = scene.commands.handlers(scene.tunnel(await session(world, OLD)))[REGISTER_ISSUER]
        args = scene.worst(REGISTER_ISSUER)
        said = []
        for _ in range(2 * UNFINISHED_MAX):
            asking = agent.spawn(_outcome(handler(args)), name="asking")
            for _ in range(3):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            said.append(None if asking.cancelled() else asking.result())
        assert said == [None] * UNFINISHED_MAX + [Code.OVERLOADED] * UNFINISHED_MAX
        assert len(tasks) == UNFINISHED_MAX
        store.may_read.set()
        await tasks.wait()
        assert await _outcome(handler(args)) is None


async def _outcome(work: Awaitable[object]) -> Code | None:
    try:
        await work
    except StreamReset as exc:
        return exc.code
    return None
