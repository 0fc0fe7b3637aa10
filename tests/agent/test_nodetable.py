"""The table of nodes at the agent: what is read of a node, when the hub hears of it, and what is no news."""

import asyncio
import contextlib
import json

import pytest

from agent import nodetable as module
from agent.fallback.choose import LABEL
from agent.nodetable import FIRST_S, INTERVAL_S, NodeRegistration
from proto.aio.commands import CommandServer
from proto.aio.tasks import TaskGroup
from proto.commands import REGISTER_NODES, TELL_NODES, NodesMissing, Nothing
from proto.errors import Code, StreamReset
from proto.nodetable import NodeRow, from_args
from tests.agent.fallback import kubeapi
from tests.proto.aio.fakes import Wire

KUBELET = {"kubeletVersion": "v1.37.2", "osImage": "Debian 12", "kernelVersion": "6.1", "architecture": "amd64"}


class Api(kubeapi.Api):
    """Answers as bytes, which the caller decodes."""

    async def get(self, path, decode=json.loads):
        return decode(json.dumps(await super().get(path)).encode())


class Hub:
    """Takes tables as a hub does; `said` is every command."""

    def __init__(self):
        self.parts, self.tags, self.said = {}, (), []
        self.refuses = None
        self.refuses_parts = False

    async def register(self, args):
        self.said.append(REGISTER_NODES.name)
        if self.refuses is not None:
            raise StreamReset("no", self.refuses)
        self.tags = args.tags
        missing = [number for number, tag in enumerate(args.tags) if self.parts.get(number, ("", ()))[0] != tag]
        return NodesMissing(parts=tuple(missing))

    async def tell(self, args):
        self.said.append(TELL_NODES.name)
        if self.refuses_parts:
            raise StreamReset("no", Code.OVERLOADED)
        self.parts[args.part] = args.tag, from_args(args)
        return Nothing()

    @property
    def rows(self):
        parts = [self.parts[number][1] for number in range(len(self.tags))]
        return {row.name: row for part in parts for row in part}


class World:
    """One agent and its hub in virtual time."""

    def __init__(self, *nodes):
        self.api, self.hub = Api(*nodes), Hub()
        self.now, self.left = 1000.0, 0
        self.rested = asyncio.Event()
        self.duty = NodeRegistration(self.api, clock=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds):
        self.now += seconds
        if seconds > FIRST_S:  # a round is over
            self.left -= 1
            if not self.left:
                self.rested.set()
                await asyncio.Event().wait()

    async def rounds(self, count, change=lambda number: None):
        """A session of so many rounds; `change` is called before each but the first."""
        self.left, self.rested = count, asyncio.Event()
        sleep = self.sleep

        async def between(seconds):
            await sleep(seconds)
            if seconds > FIRST_S:
                change(count - self.left)

        self.duty._sleep = between
        async with Wire() as wire, TaskGroup("agent") as group:
            commands = {TELL_NODES: self.hub.tell}
            if self.hub.refuses is not Code.FORBIDDEN:
                commands[REGISTER_NODES] = self.hub.register
            server = CommandServer(commands, group)
            wire.hub._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
            tending = group.spawn(self.duty.tend(wire.agent, None), name="tend")
            resting = group.spawn(self.rested.wait(), name="rest")
            async with asyncio.timeout(10):
                await asyncio.wait((tending, resting), return_when=asyncio.FIRST_COMPLETED)
            ended = tending.done()
            for task in (tending, resting):
                task.cancel()
        return ended


def node(name, **how):
    made = kubeapi.node(name, **how)
    made["status"]["nodeInfo"] = dict(KUBELET)
    return made


async def test_what_is_read_of_a_node():
    one = node("n1", plane=True, zone="z1", chosen=True)
    one["metadata"]["labels"] |= {"node-role.kubernetes.io/etcd": "", "kubernetes.io/role": "control-plane"}
    one["status"]["addresses"] = [
        {"type": "InternalIP", "address": "10.0.0.5"},
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "fd00::5"},
        {"type": "ExternalIP", "address": "192.0.2.5"},
    ]
    bare = {"metadata": {"name": "bare"}}
    odd = node("odd", status="False")
    odd["status"]["nodeInfo"]["osImage"] = "Zürich Linux\n" * 30
    odd["status"]["addresses"] = [{"type": "InternalIP", "address": f"fd00::{number:04x}"} for number in range(1, 60)]
    world = World(one, bare, odd)
    await world.rounds(1)
    assert world.hub.rows["n1"] == NodeRow(
        "n1", "control-plane etcd", "v1.37.2", "Debian 12", "6.1", "amd64", "10.0.0.5 fd00::5 192.0.2.5", "z1",
        is_ready=True, is_fallback=True,
    )  # fmt: skip
    assert LABEL in one["metadata"]["labels"]
    assert world.hub.rows["bare"] == NodeRow("bare")
    read = world.hub.rows["odd"]
    assert (read.is_ready, len(read.system), read.system[:13]) == (False, 128, "Z?rich Linux?")
    assert len(read.addresses) <= 256
    assert read.addresses.split()[-1].startswith("fd00::00")  # whole ones


async def test_a_heartbeat_is_no_news():
    world = World(node("a"), node("b"))

    def beat(number):
        for each in world.api.nodes.values():
            each["metadata"]["resourceVersion"] = str(number)
            each["status"]["conditions"] = [
                {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": str(number)},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": str(number)},
            ]
            each["status"]["images"] = [{"names": [f"image-{number}"]}]

    await world.rounds(50, beat)
    assert world.hub.said == ["register-nodes", "tell-nodes"]


async def test_a_change_is_told_and_alone_and_a_new_session_tells_nothing_anew():
    world = World(*(node(f"n{number:03}") for number in range(120)))
    await world.rounds(1)
    assert world.hub.said == ["register-nodes", *["tell-nodes"] * 8]
    assert len(world.hub.rows) == 120
    world.hub.said.clear()

    def upgrade(number):
        if number == 1:
            world.api.nodes["n007"]["status"]["nodeInfo"]["kubeletVersion"] = "v1.38.0"

    await world.rounds(3, upgrade)
    assert world.hub.said == ["register-nodes", "register-nodes", "tell-nodes"]
    assert world.hub.rows["n007"].kubelet == "v1.38.0"


async def test_a_session_that_begins_asks_the_api_server_nothing_where_the_hub_knows_it_all():
    world = World(node("a"))
    await world.rounds(1)
    world.now -= INTERVAL_S / 2  # the session broke and came back between two looks
    world.hub.said.clear()
    world.api.asked.clear()
    await world.rounds(1)
    assert (world.hub.said, world.api.asked) == (["register-nodes"], [])
    world.now -= INTERVAL_S / 2
    world.hub.said.clear()
    world.hub.parts.clear()  # another hub, or its store from yesterday
    await world.rounds(1)
    assert world.hub.said == ["register-nodes", "register-nodes", "tell-nodes"]


async def test_a_node_that_comes_and_goes_for_ever_is_told_now_and_then():
    world = World(node("a"))

    def flap(number):
        world.api.nodes["a"]["status"]["conditions"][0]["status"] = "True" if number % 2 else "False"

    await world.rounds(24 * 60, flap)  # a day
    assert 100 <= world.hub.said.count("tell-nodes") <= 170


async def test_a_large_cluster_is_looked_at_less_often_and_in_pages(monkeypatch):
    monkeypatch.setattr(module, "PAGE", 1)
    world = World(*(node(f"n{number:04}") for number in range(1500)))
    monkeypatch.setattr(module, "NODE_S", 1.0)
    monkeypatch.setattr(module, "PAGE", 500)
    started = world.now
    await world.rounds(2)
    assert world.now - started >= 2 * 1500 * 0.9
    assert len([path for path in world.api.asked if "limit=500" in path]) == 2 * 3
    assert len(world.hub.rows) == 1500


async def test_what_fails_is_said_once_and_tried_again(caplog):
    world = World(node("a"))
    world.api.fail = 403

    def mend(number):
        if number == 5:
            world.api.fail = 0

    await world.rounds(7, mend)
    assert world.hub.said == ["register-nodes", "tell-nodes"]
    assert caplog.text.count("nodes not registered") == 1
    world.hub.refuses = Code.OVERLOADED
    await world.rounds(1)
    assert "nodes not registered" in caplog.text


async def test_what_was_half_told_is_told_also_when_the_nodes_are_as_before():
    """The hub has the head of a table whose nodes it was not told."""
    world = World(node("a"))
    kubelet = world.api.nodes["a"]["status"]["nodeInfo"]

    def there_and_back(number):
        world.hub.refuses_parts = number == 1
        kubelet["kubeletVersion"] = "v1.38.0" if number == 1 else "v1.37.2"

    await world.rounds(4, there_and_back)
    assert world.hub.tags == (world.hub.parts[0][0],)
    assert world.hub.said == ["register-nodes", "tell-nodes"] * 2 + ["register-nodes"]


async def test_a_hub_that_is_older_is_left_alone():
    world = World(node("a"))
    world.hub.refuses = Code.FORBIDDEN
    assert await world.rounds(2)
    assert world.hub.said == []


@pytest.mark.parametrize("answer", [[], {}, {"items": [{}], "metadata": {}}, {"items": 7, "metadata": {}}])
async def test_a_list_that_is_none(answer):
    with pytest.raises(ValueError), contextlib.nullcontext():  # noqa: PT011 msgspec's own, which quotes nothing secret
        module._page.decode(json.dumps(answer).encode())
