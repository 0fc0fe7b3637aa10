"""What is read of an API server's nodes, and since when they are what they are."""

import pytest

from agent.fallback.choose import CORDONED, DELETED, NO_AGENT, NOT_READY
from agent.fallback.nodes import Nodes
from tests.agent.fallback.kubeapi import Api, Clock, node, pod

SINCE = 1_767_225_600.0
"""2026-01-01T00:00:00Z, when the nodes of `kubeapi` became what they are."""


class World:
    def __init__(self, *nodes, pods=()):
        self.api, self.clock = Api(*nodes, pods=pods), Clock()
        self.start = self.clock.now
        self.nodes = Nodes(
            self.api, "riata-system", "agent", clock=self.clock, wall=lambda: SINCE + 100 + self.clock.now - self.start
        )

    async def look(self, seconds=0.0):
        self.clock.now += seconds
        return {each.name: each for each in await self.nodes.look()}


async def test_roles_zones_and_labels():
    world = World(node("p", plane=True, zone="z"), node("w", chosen=True), pods=[pod("w")])
    found = await world.look()
    assert (found["p"].is_control_plane, found["p"].zone, found["p"].is_chosen) == (True, "z", False)
    assert (found["w"].is_control_plane, found["w"].zone, found["w"].is_chosen) == (False, "", True)


@pytest.mark.parametrize("role", ["control-plane", "controlplane", "master"])
async def test_names_of_the_role(role):
    world = World(node("p"))
    world.api.nodes["p"]["metadata"]["labels"][f"node-role.kubernetes.io/{role}"] = "true"
    assert (await world.look())["p"].is_control_plane


async def test_where_node_agents_run():
    """On a chosen node the fallback's, on any other the other one; both are the same but for the label."""
    nodes = [node(name, chosen=name in "ab") for name in "abcd"]
    world = World(*nodes, pods=[pod("a"), pod("b", running=False), pod("c"), pod("d", running=False)])
    assert {name: each.is_proven for name, each in (await world.look()).items()} == {
        "a": True, "b": False, "c": True, "d": False,
    }  # fmt: skip
    assert [path.partition("?")[2] for path in world.api.asked if "/pods" in path] == [
        "fieldSelector=spec.serviceAccountName%3Dagent-node-fallback&limit=25",
        "fieldSelector=spec.serviceAccountName%3Dagent-node&limit=25",
    ]


async def test_an_agent_of_the_other_kind_says_nothing():
    """The label has just been set: the old pod ends, the new one has not begun."""
    world = World(node("a", chosen=True))
    get = world.api.get

    async def a_moment_ago(path):
        return {"items": [pod("a")]} if "agent-node&" in path else await get(path)

    world.api.get = a_moment_ago
    found = await world.look()
    assert (found["a"].is_proven, found["a"].unfit) == (False, NO_AGENT)


async def test_why_a_node_is_unfit():
    world = World(
        node("fit"), node("silent", status="Unknown"), node("cordoned", cordoned=True), node("new"), node("leaving")
    )
    del world.api.nodes["new"]["status"]
    world.api.nodes["leaving"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found = await world.look()
    assert {name: each.unfit for name, each in found.items()} == {
        "fit": "", "silent": NOT_READY, "cordoned": CORDONED, "new": NOT_READY, "leaving": DELETED,
    }  # fmt: skip


async def test_since_when_comes_from_the_api_server_first_and_from_our_own_clock_then():
    world = World(node("a"), node("later", since="2026-02-01T00:00:00Z"), node("odd", since="soon"))
    found = await world.look()
    assert (found["a"].since_s, found["later"].since_s, found["odd"].since_s) == (100, 0, 0)
    assert (await world.look(10))["a"].since_s == 110
    world.api.nodes["a"]["status"]["conditions"][0]["status"] = "False"
    assert (await world.look(10))["a"].since_s == 0
    assert (await world.look(10))["a"].since_s == 10


async def test_a_chosen_node_without_a_running_pod():
    world = World(node("a", chosen=True), node("b", chosen=True), pods=[pod("a"), pod("b", running=False)])
    found = await world.look()
    assert (found["a"].unfit, found["b"].unfit, found["b"].since_s) == ("", NO_AGENT, 0)
    assert "spec.serviceAccountName%3Dagent-node-fallback&" in next(path for path in world.api.asked if "/pods" in path)
    world.nodes.lost("b", NO_AGENT)
    world.api.nodes["b"] = node("b")
    assert (await world.look(1))["b"].unfit == NO_AGENT


@pytest.mark.parametrize("answer", [None, [], {}, {"items": None}])
async def test_a_list_that_is_none(answer):
    world = World()

    async def get(path):
        return answer

    world.api.get = get
    with pytest.raises(ValueError, match="malformed"):
        await world.look()


async def test_strange_nodes_do_not_stop_the_others():
    world = World(node("a"))
    world.api.nodes["a"]["status"]["conditions"][:0] = [7, None, {"type": "Ready2"}]

    class Item(dict):
        pass

    world.api.nodes |= {"x": Item(metadata={"labels": {}}), "y": Item(metadata={"name": "y", "labels": {}}, spec=7)}
    assert set(await world.look()) == {"a", "y"}


async def test_nodes_that_do_not_run_linux_are_left_out():
    world = World(node("linux"), node("windows"), node("labelled", chosen=True), pods=[])
    for name in ("windows", "labelled"):
        world.api.nodes[name]["metadata"]["labels"]["kubernetes.io/os"] = "windows"
    found = await world.look()
    assert set(found) == {"linux", "labelled"}
    assert found["labelled"].unfit == NO_AGENT
