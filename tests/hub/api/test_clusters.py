"""`/v1/clusters` and agent tokens: idempotent creation, deletion that is felt at once, existence that is not told."""

from __future__ import annotations

import dataclasses

import pytest

from hub import slices
from hub.api import clusters
from hub.api.routes import Call
from hub.auth.bearer import Bearer
from hub.clusters.records import Clusters
from hub.store.model import StoreUnavailable
from tests.harness.records import captured
from tests.hub.api.hubworld import FakeTunnel, HubWorld
from tests.hub.api.test_agents import enrol
from tests.hub.api.test_manifests import pinned
from tests.hub.turns import turns_of


async def test_create_show_list_delete(world: HubWorld) -> None:
    made = await world.call("POST", "/v1/clusters", {"name": "berlin", "labels": {"env": "prod"}})
    assert made.status == 201
    assert made.json["labels"] == {"env": "prod"}
    shown = (await world.call("GET", "/v1/clusters/berlin")).json
    besides = {"existed": False, "command": made.json["command"], "manifest": None, "obstacle": None}
    assert made.json == {**shown, **besides}
    assert (await world.call("GET", "/v1/clusters")).json == {"items": [shown]}
    assert (await world.call("DELETE", "/v1/clusters/berlin")).status == 204
    assert (await world.call("GET", "/v1/clusters/berlin")).status == 404
    assert (await world.call("DELETE", "/v1/clusters/berlin")).status == 404
    assert (await world.call("GET", "/v1/clusters")).json == {"items": []}


async def test_the_list_leaves_out_node_agents_that_do_not_serve(world: HubWorld) -> None:
    """A fleet has one on each node, and nobody took a list of them all. They are counted, an agent with two sessions
    once, and the cluster itself shows them."""
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    idle = [FakeTunnel(role="node", node=f"n{n}", instance=f"{n}", version="0.0.9", is_eligible=False) for n in "112"]
    serving = FakeTunnel(role="node", node="n3", instance="3")
    world.tunnels.live[uid] = [FakeTunnel(), serving, *idle]
    (listed,) = (await world.call("GET", "/v1/clusters")).json["items"]
    shown = (await world.call("GET", "/v1/clusters/a")).json
    assert [tunnel["node"] for tunnel in listed["tunnels"]] == ["", "n3"]
    assert [tunnel["node"] for tunnel in shown["tunnels"]] == ["", "n3", "n1", "n1", "n2"]
    assert {**listed, "tunnels": shown["tunnels"]} == shown
    assert (listed["nodeAgents"], listed["agentVersions"]) == (3, ["0.0.9", "0.1.0"])


async def test_a_refusal_does_not_repeat_the_name_that_was_asked_for(world: HubWorld) -> None:
    """It may be a whole token, pasted in the wrong place, and messages end in logs and terminals."""
    jane = await world.mint("jane")
    name = "riata_abcdefghij_" + "0" * 64
    for token in (jane, world.admin):
        refused = await world.call("GET", f"/v1/clusters/{name}", token=token)
        assert refused.status in {403, 404}
        assert name not in refused.json["message"]


async def test_a_long_list_lets_others_have_their_turn(world: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn for each slice of it; and it is whole and in order."""
    names = [f"c{number:03}" for number in range(100)]
    for name in names:
        await world.call("POST", "/v1/clusters", {"name": name})
    caller = world.services.authenticator.authenticate(Bearer(world.admin.encode()))
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    turns, _ = await turns_of(clusters.list_clusters(Call(world.services, caller, {}, None)))
    assert turns >= len(names) - 1  # one for each, as others see it
    listed = (await world.call("GET", "/v1/clusters")).json["items"]
    assert [item["name"] for item in listed] == names
    assert listed[0] == (await world.call("GET", "/v1/clusters/c000")).json


async def test_creation_is_idempotent_by_name_and_labels_if_any(world: HubWorld) -> None:
    first = await world.call("POST", "/v1/clusters", {"name": "a", "labels": {"x": "1"}})
    again = await world.call("POST", "/v1/clusters", {"name": "a", "labels": {"x": "1"}})
    without = await world.call("POST", "/v1/clusters", {"name": "a"})
    other = await world.call("POST", "/v1/clusters", {"name": "a", "labels": {"x": "2"}})
    assert (first.status, again.status, without.status, other.status) == (201, 200, 200, 409)
    assert (first.json["existed"], again.json["existed"]) == (False, True)
    assert {**first.json, "existed": True} == again.json == without.json
    assert other.json["reason"] == "AlreadyExists"


async def test_who_asks_for_other_labels_is_told_what_there_is_and_what_deleting_it_would_cost(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a", "labels": {"x": "1", "a/b": ""}})
    said = (await world.call("POST", "/v1/clusters", {"name": "a", "labels": {"x": "2"}})).json["message"]
    assert "'a' already, with the labels a/b=, x=1, which cannot be changed: give no labels or the same" in said
    assert "Deleting it would end its grants" in said
    await world.call("POST", "/v1/clusters", {"name": "bare"})
    said = (await world.call("POST", "/v1/clusters", {"name": "bare", "labels": {"x": "2"}})).json["message"]
    assert "'bare' already, without labels, which cannot" in said
    await world.call("POST", "/v1/clusters", {"name": "much", "labels": {f"l{n}": "v" * 60 for n in range(64)}})
    said = (await world.call("POST", "/v1/clusters", {"name": "much", "labels": {"x": "2"}})).json["message"]
    assert len(said) < 600


async def test_a_connected_cluster_shows_its_tunnels(world: HubWorld) -> None:
    made = (await world.call("POST", "/v1/clusters", {"name": "a"})).json
    world.tunnels.live[made["uid"]] = [FakeTunnel()]
    shown = (await world.call("GET", "/v1/clusters/a")).json
    assert shown["connected"] is True
    assert shown["tunnels"] == [
        {
            "role": "cluster",
            "node": "",
            "instance": "ab" * 16,
            "address": "192.0.2.7:1234",
            "version": "0.1.0",
            "kubernetes": "v1.37.2",
            "connectedSince": "2026-11-25T00:00:00Z",
            "lastSeen": "1970-01-12T13:46:38Z",
            "rttSeconds": 0.05,
            "streams": 3,
            "serves": True,
        }
    ]
    assert (shown["route"], shown["fallbackNodes"]) == (
        {"role": "cluster", "node": "", "instance": "ab" * 16, "reason": "only", "since": "2026-11-25T00:00:00Z"},
        [],
    )


async def test_a_cluster_has_joined_when_an_agent_of_it_has_a_key(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})

    async def has_joined() -> bool:
        return bool((await world.call("GET", "/v1/clusters/a")).json["joined"])

    await world.call("POST", "/v1/clusters/a/join-tokens", {})
    barred = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json["id"]
    assert (await world.call("DELETE", f"/v1/clusters/a/join-tokens/{barred}")).status == 204
    assert not await has_joined()
    record = await enrol(world, "a", "k")
    assert await has_joined()
    assert (await world.call("DELETE", f"/v1/agents/{record.id}")).status == 204
    assert not await has_joined()


async def test_a_cluster_has_joined_when_there_is_an_agent_token(world: HubWorld) -> None:
    """Also when it has expired: its agent is away for that reason."""
    await world.call("POST", "/v1/clusters", {"name": "a"})
    made = (await world.call("POST", "/v1/clusters/a/agent-tokens", {"name": "x", "expiresInSeconds": 60})).json
    world.clock.now += 61
    assert (await world.call("GET", "/v1/clusters/a")).json["joined"] is True
    await world.call("DELETE", f"/v1/clusters/a/agent-tokens/{made['id']}")
    assert (await world.call("GET", "/v1/clusters/a")).json["joined"] is False


async def test_a_cluster_that_only_node_agents_serve_is_connected_if_they_may(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    world.tunnels.live[uid] = [FakeTunnel(role="node", node="n1", is_eligible=False)]
    shown = (await world.call("GET", "/v1/clusters/a")).json
    assert (shown["connected"], shown["route"]["role"], shown["fallbackNodes"]) == (False, "none", [])
    world.tunnels.live[uid].append(FakeTunnel(role="node", node="n2"))
    shown = (await world.call("GET", "/v1/clusters/a")).json
    assert (shown["connected"], shown["fallbackNodes"]) == (True, ["n2"])
    assert (shown["route"]["node"], shown["route"]["reason"]) == ("n2", "fallback-no-cluster-agent")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "A"}, {"name": ""}, {"name": "-a"}, {"name": "a" * 64}, {"name": "a/b"}, {"name": "a\n"}, {"name": 1},
        {}, {"name": "a", "labels": {"x": "é"}}, {"name": "a", "labels": {"": "x"}}, {"name": "a", "labels": {"x": 1}},
        {"name": "a", "labels": {f"l{n}": "" for n in range(65)}}, {"name": "a", "uid": "mine"},
    ],
)  # fmt: skip
async def test_bad_clusters_are_refused_with_the_field(world: HubWorld, body: dict[str, object]) -> None:
    answer = await world.call("POST", "/v1/clusters", body)
    assert answer.status == 422
    assert answer.json["details"]["causes"][0]["field"]
    assert (await world.call("GET", "/v1/clusters")).json == {"items": []}


async def test_who_may_not_know_cannot_tell_absent_from_forbidden(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "berlin"})
    jane = await world.mint("jane")
    there = await world.call("GET", "/v1/clusters/berlin", token=jane)
    absent = await world.call("GET", "/v1/clusters/munich", token=jane)
    assert there.status == absent.status == 403
    assert there.body.replace(b"berlin", b"munich") == absent.body
    assert (await world.call("GET", "/v1/clusters", token=jane)).json == {"items": []}


async def test_a_grant_opens_exactly_its_cluster(world: HubWorld) -> None:
    for name in ("a", "b"):
        await world.call("POST", "/v1/clusters", {"name": name})
    await world.call("POST", "/v1/grants", {"name": "g", "group": "dev", "cluster": "a"})
    jane = await world.mint("jane", "dev")
    assert [item["name"] for item in (await world.call("GET", "/v1/clusters", token=jane)).json["items"]] == ["a"]
    assert (await world.call("GET", "/v1/clusters/a", token=jane)).status == 200
    assert (await world.call("GET", "/v1/clusters/b", token=jane)).status == 403
    for method, path, body in [
        ("POST", "/v1/clusters", {"name": "c"}),
        ("DELETE", "/v1/clusters/a", None),
        ("GET", "/v1/clusters/a/agent-tokens", None),
        ("POST", "/v1/clusters/a/agent-tokens", {"name": "x"}),
        ("DELETE", "/v1/clusters/a/agent-tokens/abc", None),
    ]:
        assert (await world.call(method, path, body, token=jane)).status == 403


async def test_agent_tokens_are_shown_once_and_revoked(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    await world.call("POST", "/v1/clusters", {"name": "b"})
    made = await world.call("POST", "/v1/clusters/a/agent-tokens", {"name": "first", "expiresInSeconds": 60})
    assert made.status == 201
    assert made.json["token"].startswith(f"riataagent_{made.json['id']}_")
    listed = (await world.call("GET", "/v1/clusters/a/agent-tokens")).json["items"]
    assert listed == [{key: value for key, value in made.json.items() if key != "token"}]
    assert (await world.call("DELETE", f"/v1/clusters/b/agent-tokens/{made.json['id']}")).status == 404
    assert (await world.call("DELETE", f"/v1/clusters/a/agent-tokens/{made.json['id']}")).status == 204
    assert ("sessions of", made.json["id"]) in world.tunnels.cuts
    assert (await world.call("DELETE", f"/v1/clusters/a/agent-tokens/{made.json['id']}")).status == 404
    assert (await world.call("POST", "/v1/clusters/c/agent-tokens", {"name": "x"})).status == 404


async def test_what_is_made_and_ended_is_audited_with_user_and_peer(world: HubWorld) -> None:
    await pinned(world)
    with captured("riata.audit") as logged:
        uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
        assert (await world.call("POST", "/v1/clusters", {"name": "a"})).status == 200
        agent = (await world.call("POST", "/v1/clusters/a/agent-tokens", {"name": "x"})).json
        join = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json
        manifest = (await world.call("POST", "/v1/clusters/a/manifest", {})).json
        await world.call("DELETE", f"/v1/clusters/a/agent-tokens/{agent['id']}")
        await world.call("DELETE", f"/v1/clusters/a/join-tokens/{join['id']}")
        await world.call("DELETE", "/v1/clusters/a")
        await world.call("DELETE", f"/v1/clean-ups/{uid}")
    assert [(event["event"], event.get("token_id")) for event in logged] == [
        ("cluster-made", None),
        ("agent-token-made", agent["id"]),
        ("join-token-made", join["id"]),
        ("join-token-made", manifest["joinToken"]),
        ("agent-token-revoked", agent["id"]),
        ("join-token-revoked", join["id"]),
        ("cluster-deleted", None),
        ("clean-up-pending", None),
        ("clean-up-forgotten", None),
    ]
    assert {(event["cluster"], event["user"], event["peer"]) for event in logged} == {("a", "admin", "192.0.2.1:4000")}
    assert not any(made["token"].split("_")[2] in str(logged) for made in (agent, join))


async def test_what_is_done_is_audited_though_another_worker_does_not_answer(
    world: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done by then: a hub that ends in between, or a worker that hangs, must not take the event along."""
    await pinned(world)
    await world.call("POST", "/v1/clusters", {"name": "a"})
    await enrol(world, "a", "one")
    join = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json["id"]

    async def fail(_revision: int) -> None:
        raise StoreUnavailable("a worker does not answer")

    monkeypatch.setattr(world.follower, "reached", fail)
    with captured("riata.audit") as logged:
        for method, path in (
            ("POST", "/v1/clusters/a/join-tokens"),
            ("POST", "/v1/clusters/a/manifest"),
            ("DELETE", f"/v1/clusters/a/join-tokens/{join}"),
            ("DELETE", "/v1/agents/one"),
            ("DELETE", "/v1/agents/a:node-1"),
            ("POST", "/v1/agents/a:node-1/readmit"),
        ):
            assert (await world.call(method, path, {} if method == "POST" else None)).status == 503, path
        assert (await world.call("POST", "/v1/clusters", {"name": "b"})).status == 503
    assert [event["event"] for event in logged] == [
        "join-token-made",
        "join-token-made",
        "join-token-revoked",
        "agent-revoked",
        "agent-revoked",
        "agent-readmitted",
        "cluster-made",
    ]


async def test_deletion_ends_what_was_bound_to_the_cluster(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    await world.call("POST", "/v1/clusters/a/agent-tokens", {"name": "x"})
    await world.call("POST", "/v1/grants", {"name": "g", "user": "jane", "cluster": "a"})
    scoped = await world.mint("jane", scope=("a",))
    assert (await world.call("DELETE", "/v1/clusters/a")).status == 200
    assert ("sessions of", uid) in world.tunnels.cuts
    assert ("exchanges of", uid) in world.tunnels.cuts
    assert [item["name"] for item in (await world.call("GET", "/v1/grants")).json["items"]] == ["hub-admin"]
    assert (await world.store.list("agent-token")).items == ()
    again = (await world.call("POST", "/v1/clusters", {"name": "a"})).json
    assert again["uid"] != uid
    assert (await world.call("GET", "/v1/clusters/a/agent-tokens")).json == {"items": []}
    assert (await world.call("GET", "/v1/clusters/a", token=scoped)).status == 403


class Unswept(Clusters):
    """The disk is full once the cluster is deleted."""

    async def sweep(self) -> int:
        raise StoreUnavailable("no space")


async def test_a_deletion_whose_sweep_fails_is_told_all_the_same(world: HubWorld) -> None:
    """The cluster is gone: a second attempt finds none, and would tell of nothing."""
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    services = dataclasses.replace(world.services, clusters=Unswept(world.store, world.clock))
    admin = world.services.authenticator.authenticate(Bearer(world.admin.encode()))
    with captured("riata.audit") as logged, pytest.raises(StoreUnavailable):
        await clusters.delete_cluster(Call(services, admin, {"cluster": "a"}, None))
    assert [(event["event"], event["cluster_uid"], event["user"]) for event in logged] == [
        ("cluster-deleted", uid, "admin")
    ]
