"""`/v1/clusters/{cluster}/nodes` and the nodes in `/v1/agents`."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from hub import slices
from hub.api.nodes import list_nodes
from hub.api.routes import Call
from hub.auth.principal import Principal
from proto.commands import RegisterNodes
from proto.facts import NodeFacts
from proto.nodetable import NodeRow, divide, to_args
from tests.hub.api.hubworld import FakeTunnel, HubWorld
from tests.hub.api.test_agents import enrol

PLANE = NodeRow(
    "n1", "control-plane etcd", "v1.37.2", "Debian 12", "6.1", "amd64", "10.0.0.5 fd00::5", "z1",
    is_ready=True, is_fallback=True,
)  # fmt: skip
SHOWN = {
    "roles": ["control-plane", "etcd"], "kubelet": "v1.37.2", "osImage": "Debian 12", "kernel": "6.1",
    "architecture": "amd64", "addresses": ["10.0.0.5", "fd00::5"], "zone": "z1", "ready": True, "fallback": True,
}  # fmt: skip


async def known(world: HubWorld, *rows: NodeRow) -> str:
    """The uid of cluster `a`, whose agent has told these nodes; n1 and n3 have agents."""
    uid = str((await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"])
    await enrol(world, "a", "one")
    parts = divide(rows)
    args = RegisterNodes(total=len(rows), tags=tuple(part.tag for part in parts))
    missing, _ = await world.services.node_tables.register(uid, "one", args)
    for number in missing.parts:
        await world.services.node_tables.tell(uid, "one", to_args(number, parts[number]))
    facts = NodeFacts(boot_id="b", architecture="x86_64")
    world.tunnels.live[uid] = [
        FakeTunnel(role="node", node="n1", credential_id="a:n1", facts=facts),
        FakeTunnel(role="node", node="n3", credential_id="a:n3", is_eligible=False),
        FakeTunnel(credential_id="one"),
    ]
    return uid


async def test_both_words_on_each_node(world: HubWorld) -> None:
    await known(world, PLANE, NodeRow("n2"))
    answer = (await world.call("GET", "/v1/clusters/a/nodes")).json
    assert {name: value for name, value in answer.items() if name != "items"} == {
        "total": 2, "registeredBy": "one", "registeredAt": "1970-01-12T13:46:40Z", "whole": True,
    }  # fmt: skip
    one, two, three = answer["items"]
    assert (one["name"], one["registered"], one["agent"]["serves"]) == ("n1", SHOWN, True)
    assert (one["agent"]["facts"]["bootId"], one["agent"]["facts"]["architecture"]) == ("b", "x86_64")
    assert (two["name"], two["registered"]["ready"], two["agent"]) == ("n2", False, None)
    assert (three["name"], three["registered"], three["agent"]["serves"]) == ("n3", None, False)
    agents = {item["id"]: item for item in (await world.call("GET", "/v1/agents")).json["items"]}
    assert agents["a:n1"]["registeredNode"] == SHOWN
    assert agents["a:n1"]["nodeFacts"]["bootId"] == "b"
    assert (agents["a:n3"]["registeredNode"], agents["one"]["registeredNode"]) == (None, None)


async def test_a_table_decides_nothing(world: HubWorld) -> None:
    """An agent that says every node is a fallback makes none of them one."""
    await known(world, NodeRow("n3", is_fallback=True))
    (_, three) = (await world.call("GET", "/v1/clusters/a/nodes")).json["items"]
    assert (three["registered"]["fallback"], three["agent"]["serves"]) == (True, False)
    assert (await world.call("GET", "/v1/clusters/a")).json["fallbackNodes"] == ["n1"]


async def test_a_cluster_whose_agent_has_told_nothing(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    assert (await world.call("GET", "/v1/clusters/a/nodes")).json == {
        "items": [], "total": None, "registeredBy": "", "registeredAt": None, "whole": False,
    }  # fmt: skip


async def test_nodes_are_shown_to_those_who_administer_the_cluster(world: HubWorld) -> None:
    await known(world, PLANE)
    for user, role, expected in (("jane", "use", 403), ("joe", "admin", 200), ("mallory", "", 403)):
        if role:
            body = {"name": f"g-{user}", "user": user, "cluster": "a", "role": role}
            assert (await world.call("POST", "/v1/grants", body)).status == 201
        token = await world.mint(user)
        assert (await world.call("GET", "/v1/clusters/a/nodes", token=token)).status == expected
    assert (await world.call("GET", "/v1/clusters/none/nodes")).status == 404
    assert (await world.call("GET", "/v1/clusters/a/nodes", token="")).status == 401


async def test_thousands_of_nodes_are_listed_without_holding_up_the_loop(
    world: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    await known(world, *(NodeRow(f"n{number:04}", kubelet="v1") for number in range(2000)))
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(beat())  # noqa: TID251
    listed = (await world.call("GET", "/v1/clusters/a/nodes")).json
    task.cancel()
    await asyncio.wait([task])
    assert (len(listed["items"]), listed["total"]) == (2000 + 2, 2000)  # two with an agent are in no table
    assert turns > 2000


async def test_who_asks_at_the_same_time_gets_one_list(world: HubWorld) -> None:
    """An agent may have told megabytes: fifty lists of the same would be hundreds."""
    await known(world, PLANE)
    admin = Principal("root", (), "t", is_admin=True, cluster_uids=None)
    calls = [Call(world.services, admin, {"cluster": "a"}, None) for _ in range(5)]
    first, *others = await asyncio.gather(*map(list_nodes, calls))
    assert b'"n1"' in cast(bytes, first.body)
    assert all(other.body is first.body for other in others)
    later = await list_nodes(calls[0])  # made anew
    assert later.body == first.body
    assert later.body is not first.body
