"""`/v1/agents`: sessions and identities in one list, revocation that is felt, rotation that is asked for."""

from __future__ import annotations

import dataclasses

from hub.auth.agentkeys import AgentKey, PublicKey
from hub.auth.retention import KEEP_S
from proto.commands import RegisterNodes
from proto.facts import NodeFacts
from proto.nodetable import NodeRow, divide, to_args
from tests.harness.records import captured
from tests.hub.api.hubworld import FakeTunnel, HubWorld


async def enrol(world: HubWorld, cluster: str, agent_id: str) -> AgentKey:
    uid = world.clusters.uid_of(cluster)
    assert uid is not None
    record, _ = await world.services.agent_keys.enrol(
        agent_id=agent_id, cluster_uid=uid, role="cluster", key=agent_id.encode().ljust(32), joined_from="192.0.2.7:1"
    )
    await world.follower.reached(record.revision)
    return record


async def test_sessions_and_those_without_one(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    await enrol(world, "a", "there")
    await enrol(world, "a", "seen")
    world.tunnels.live[uid] = [FakeTunnel(credential_id="there"), FakeTunnel(credential_id="bearer")]
    items = (await world.call("GET", "/v1/agents")).json["items"]
    assert [(item["id"], item["credential"], item["connected"]) for item in items] == [
        ("there", "key", True),
        ("bearer", "token", True),
        ("seen", "key", False),
    ]
    assert items[0] == {
        "id": "there", "cluster": "a", "role": "cluster", "node": "", "credential": "key",
        "joinedAt": "1970-01-12T13:46:40Z", "keySince": "1970-01-12T13:46:40Z", "revokedAt": None, "connected": True,
        "instance": "ab" * 16, "address": "192.0.2.7:1234", "version": "0.1.0", "kubernetes": "v1.37.2",
        "connectedSince": "2026-11-25T00:00:00Z", "lastSeen": "1970-01-12T13:46:38Z", "rttSeconds": 0.05,
        "nodeFacts": None, "registeredNode": None,
    }  # fmt: skip
    assert (items[2]["lastSeen"], items[2]["connectedSince"]) == ("2026-11-24T00:00:00Z", None)


async def test_other_workers_are_asked_how_their_agents_are(world: HubWorld) -> None:
    """Else a worker shows what it was told last, when somebody listed clusters."""
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    world.tunnels.elsewhere[uid] = [FakeTunnel(credential_id="theirs")]
    (item,) = (await world.call("GET", "/v1/agents")).json["items"]
    assert item["id"] == "theirs"


async def fleet(world: HubWorld, **agents: int) -> None:
    """Clusters with so many connected agents each: a1, a2, … of the cluster a."""
    for name, count in agents.items():
        uid = (await world.call("POST", "/v1/clusters", {"name": name})).json["uid"]
        world.tunnels.live[uid] = [FakeTunnel(credential_id=f"{name}{number}") for number in range(1, count + 1)]


async def test_those_of_one_cluster(world: HubWorld) -> None:
    await fleet(world, a=1, b=2)

    async def ids(query: str) -> list[str]:
        return [item["id"] for item in (await world.call("GET", f"/v1/agents?{query}")).json["items"]]

    assert await ids("cluster=b") == ["b1", "b2"]
    assert await ids("cluster=none") == []
    assert await ids("") == ["a1", "b1", "b2"]
    assert await ids("of-a-newer-command=1") == ["a1", "b1", "b2"]


async def test_a_list_in_pages_of_whole_clusters(world: HubWorld) -> None:
    """A quarter of a million agents are no answer that anybody takes in one."""
    await fleet(world, a=1, b=2, c=2, d=1)
    pages, more = [], ""
    for _ in range(9):
        page = (await world.call("GET", f"/v1/agents?limit=3{more}")).json
        pages.append([item["id"] for item in page["items"]])
        if "continue" not in page:
            break
        more = f"&continue={page['continue']}"
    assert pages == [["a1", "b1", "b2"], ["c1", "c2", "d1"]]
    assert world.tunnels.asked == [("", 0.0), ("", 10.0)]  # of the other workers: anew for the first page alone


async def test_the_next_page_stands_though_the_cluster_before_it_is_gone(world: HubWorld) -> None:
    await fleet(world, a=1, b=1, c=1)
    first = (await world.call("GET", "/v1/agents?limit=2")).json
    assert first["continue"] == "b"
    await world.call("DELETE", "/v1/clusters/b")
    rest = (await world.call("GET", "/v1/agents?limit=2&continue=b")).json
    assert ([item["id"] for item in rest["items"]], "continue" in rest) == (["c1"], False)


async def test_a_parameter_that_is_wrong_is_named(world: HubWorld) -> None:
    for query, field in (("limit=0", "limit"), ("limit=x", "limit"), ("cluster=A%2FB", "cluster")):
        answer = await world.call("GET", f"/v1/agents?{query}")
        assert (answer.status, field in answer.json["message"]) == (422, True)
    assert (await world.call("GET", "/v1/agents?limit=0", token=await world.mint("jane"))).status == 403


async def test_what_a_node_agent_says_of_its_node_is_shown(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    facts = NodeFacts(boot_id="b", kernel="6.1", architecture="x86_64", addresses="10.0.0.5 fd00::5", roles="")
    world.tunnels.live[uid] = [FakeTunnel(role="node", node="n1", facts=facts)]
    (item,) = (await world.call("GET", "/v1/agents")).json["items"]
    assert item["nodeFacts"] == {
        "bootId": "b", "kernel": "6.1", "architecture": "x86_64", "addresses": ["10.0.0.5", "fd00::5"], "roles": [],
    }  # fmt: skip


async def test_revocation_cuts_and_is_audited(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    await enrol(world, "a", "one")
    with captured("riata.audit") as logged:
        assert (await world.call("DELETE", "/v1/agents/one")).status == 204
    assert ("sessions of", "one") in world.tunnels.cuts
    (event,) = [event for event in logged if event.get("audit")]
    assert (event["event"], event["agent"], event["cluster"], event["user"]) == ("agent-revoked", "one", "a", "admin")
    assert event["peer"]
    (item,) = (await world.call("GET", "/v1/agents")).json["items"]
    assert item["revokedAt"] == "1970-01-12T13:46:40Z"
    assert (await world.call("DELETE", "/v1/agents/one")).status == 204
    assert (await world.call("POST", "/v1/agents/one/rotate-key")).status == 409
    world.admin = await world.mint("admin", lifetime_s=None)
    world.clock.now += KEEP_S  # its key stays refused, and nobody has to look at it for ever
    assert (await world.call("GET", "/v1/agents")).json["items"] == []
    assert (await world.call("DELETE", "/v1/agents/one")).status == 204


async def test_a_rotation_is_asked_of_the_agent(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    await enrol(world, "a", "one")
    with captured("riata.audit") as logged:
        assert (await world.call("POST", "/v1/agents/one/rotate-key", {})).status == 204
    assert ("rotation of", "one") in world.tunnels.cuts
    assert [(line["event"], line["agent"], line["cluster"], line["user"]) for line in logged] == [
        ("agent-key-rotation-asked", "one", "a", "admin")
    ]
    world.rotation_fails = "it is not connected"
    answer = await world.call("POST", "/v1/agents/one/rotate-key")
    assert answer.status == 503
    assert "it is not connected" in answer.json["message"]


async def test_a_rotation_that_is_asked_for_again_says_when_the_last_one_is_over(world: HubWorld) -> None:
    """The agent would have carried it out a minute later, after "the agent's key was not replaced"."""
    await world.call("POST", "/v1/clusters", {"name": "a"})
    record = await enrol(world, "a", "one")
    now = world.clock.now
    keys = (dataclasses.replace(record.current, until=now + 50.0), PublicKey(b"new".ljust(32), now))
    changed = await world.services.agent_keys.change(
        record.cluster_uid, "one", lambda found: dataclasses.replace(found, keys=keys)
    )
    assert changed is not None
    await world.follower.reached(changed.revision)
    world.clock.now += 10
    with captured("riata.audit") as logged:
        answer = await world.call("POST", "/v1/agents/one/rotate-key", {})
    assert (answer.status, logged, world.tunnels.cuts) == (409, [], [])
    assert "replaced 10 s ago: ask again in 40 s" in answer.json["message"]
    world.clock.now += 40
    assert (await world.call("POST", "/v1/agents/one/rotate-key", {})).status == 204


async def test_who_is_not_an_enrolled_agent(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    token = (await world.call("POST", "/v1/clusters/a/agent-tokens", {"name": "x"})).json
    answer = await world.call("DELETE", f"/v1/agents/{token['id']}")
    assert answer.status == 404
    assert "riata agent-tokens" in answer.json["message"]
    assert (await world.call("DELETE", "/v1/agents/none")).status == 404
    assert (await world.call("POST", "/v1/agents/none/rotate-key")).status == 404
    jane = await world.mint("jane")
    for method, path in (("GET", "/v1/agents"), ("DELETE", "/v1/agents/x"), ("POST", "/v1/agents/x/rotate-key")):
        assert (await world.call(method, path, token=jane)).status == 403


async def test_a_node_is_denied_and_let_in_again(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    node = FakeTunnel(role="node", node="node-1", credential_id="a:node-1", is_eligible=False)
    world.tunnels.live[uid] = [node]
    assert (await world.call("GET", "/v1/clusters/a")).json["connected"] is False
    (item,) = (await world.call("GET", "/v1/agents")).json["items"]
    assert (item["id"], item["role"], item["node"], item["credential"]) == (
        "a:node-1", "node", "node-1", "service-account",
    )  # fmt: skip
    assert (await world.call("DELETE", "/v1/agents/a:node-1")).status == 204
    assert (await world.call("DELETE", "/v1/agents/a:node-1")).status == 204
    assert world.denials.since(uid, "node-1") == world.clock.now
    world.tunnels.live[uid] = []
    (item,) = (await world.call("GET", "/v1/agents")).json["items"]
    assert (item["id"], item["connected"], item["revokedAt"]) == ("a:node-1", False, "1970-01-12T13:46:40Z")
    assert (await world.call("POST", "/v1/agents/a:node-1/readmit", {})).status == 204
    assert (await world.call("POST", "/v1/agents/a:node-1/readmit", {})).status == 404
    assert (await world.call("GET", "/v1/agents")).json["items"] == []
    for bad in ("b:node-1", "a:..", "a:", "a:N"):
        assert (await world.call("DELETE", f"/v1/agents/{bad}")).status == 404
    assert (await world.call("POST", "/v1/agents/k000000001/readmit", {})).status == 409


async def test_a_node_that_nobody_knows_is_denied_and_said_to_be_unknown(world: HubWorld) -> None:
    """`a:worker-1`, where the node is called worker-1.example.org: it went on serving, and nothing was said."""
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    live = FakeTunnel(role="node", node="worker-1.example.org", credential_id="a:worker-1.example.org")
    world.tunnels.live[uid] = [live]
    answer = await world.call("DELETE", "/v1/agents/a:worker-1")
    assert (answer.status, answer.json["id"], answer.json["node"]) == (200, "a:worker-1", "worker-1")
    assert "the hub knows no node worker-1 of cluster a" in answer.json["note"]
    assert world.denials.since(uid, "worker-1") == world.clock.now
    assert (await world.call("DELETE", "/v1/agents/a:worker-1.example.org")).status == 204


async def test_a_node_is_known_by_its_clusters_agent_too(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    await enrol(world, "a", "one")
    tables = world.services.node_tables
    (part,) = divide([NodeRow("n1")])
    await tables.register(uid, "one", RegisterNodes(tags=(part.tag,), total=1))
    await tables.tell(uid, "one", to_args(0, part))
    assert (await world.call("DELETE", "/v1/agents/a:n1")).status == 204
    assert (await world.call("DELETE", "/v1/agents/a:n2")).status == 200
