"""`/v1/clusters/{cluster}/join-tokens`: shown once, bound, bounded, and dead with their cluster."""

from __future__ import annotations

import pytest

from tests.harness.records import captured
from tests.hub.api.hubworld import HubWorld


async def test_made_listed_and_taken_back(world: HubWorld) -> None:
    for name in ("a", "b"):
        await world.call("POST", "/v1/clusters", {"name": name})
    with captured("riata.audit") as logged:
        made = await world.call("POST", "/v1/clusters/a/join-tokens", {})
    assert made.status == 201
    assert made.json["token"].startswith(f"riatajoin_{made.json['id']}_")
    assert (made.json["createdAt"], made.json["expiresAt"]) == ("1970-01-12T13:46:40Z", "1970-01-12T14:01:40Z")
    assert [event["event"] for event in logged if event.get("audit")] == ["join-token-made"]
    assert made.json["token"] not in str(logged)
    listed = (await world.call("GET", "/v1/clusters/a/join-tokens")).json["items"]
    assert listed == [{key: value for key, value in made.json.items() if key != "token"}]
    assert listed[0]["usedAt"] is None
    path = f"/join-tokens/{made.json['id']}"
    assert (await world.call("DELETE", f"/v1/clusters/b{path}")).status == 404
    assert (await world.call("DELETE", f"/v1/clusters/a{path}")).status == 204
    assert (await world.call("DELETE", f"/v1/clusters/a{path}")).status == 404


async def test_a_used_token_says_when(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    made = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json
    record, _ = await world.services.agent_keys.enrol(
        agent_id=made["id"], cluster_uid=uid, role="cluster", key=b"k" * 32, joined_from="192.0.2.7:1"
    )
    await world.follower.reached(record.revision)
    (listed,) = (await world.call("GET", "/v1/clusters/a/join-tokens")).json["items"]
    assert listed["usedAt"] == "1970-01-12T13:46:40Z"
    with captured("riata.audit") as logged:
        assert (await world.call("DELETE", f"/v1/clusters/a/join-tokens/{made['id']}")).status == 204
    assert [(line["event"], line["was_used"]) for line in logged] == [("join-token-revoked", True)]
    again = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json
    await world.services.agent_keys.bar(uid, again["id"], by="admin")  # the same, whose token the disk did not take
    with captured("riata.audit") as logged:
        assert (await world.call("DELETE", f"/v1/clusters/a/join-tokens/{again['id']}")).status == 204
    assert [(line["event"], line["was_used"]) for line in logged] == [("join-token-revoked", False)]


@pytest.mark.parametrize("seconds", [0, 59, 86_401, "900", 900.5, True])
async def test_no_token_lives_longer_than_a_day(world: HubWorld, seconds: object) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    answer = await world.call("POST", "/v1/clusters/a/join-tokens", {"expiresInSeconds": seconds})
    assert answer.status == 422
    assert answer.json["details"]["causes"][0]["field"] == "expiresInSeconds"
    assert (await world.call("GET", "/v1/clusters/a/join-tokens")).json == {"items": []}


async def test_only_hub_administrators(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    await world.call("POST", "/v1/grants", {"name": "g", "user": "jane", "cluster": "a", "role": "admin"})
    jane = await world.mint("jane")
    for method, path, body in [
        ("GET", "/v1/clusters/a/join-tokens", None),
        ("POST", "/v1/clusters/a/join-tokens", {}),
        ("DELETE", "/v1/clusters/a/join-tokens/x", None),
    ]:
        assert (await world.call(method, path, body, token=jane)).status == 403
    assert (await world.call("POST", "/v1/clusters/none/join-tokens", {})).status == 404


async def test_tokens_and_keys_end_with_their_cluster(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    made = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json
    await world.services.agent_keys.enrol(
        agent_id=made["id"], cluster_uid=uid, role="cluster", key=b"k" * 32, joined_from=""
    )
    assert (await world.call("DELETE", "/v1/clusters/a")).status == 200
    for kind in ("join-token", "agent-key"):
        assert (await world.store.list(kind)).items == ()
    assert ("sessions of", uid) in world.tunnels.cuts


async def test_a_revoked_token_leaves_its_name_taken_and_nothing_to_see(world: HubWorld) -> None:
    """So that a join which waits for the disk cannot come after the answer; and nobody takes it for an agent."""
    await world.call("POST", "/v1/clusters", {"name": "a"})
    made = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json
    with captured("riata.audit") as logged:
        assert (await world.call("DELETE", f"/v1/clusters/a/join-tokens/{made['id']}")).status == 204
    assert [event["event"] for event in logged] == ["join-token-revoked"]
    record = world.agent_keys.get(made["id"])
    assert record is not None
    assert record.is_barred
    assert (await world.call("GET", "/v1/agents")).json == {"items": []}
    for method, path in (("DELETE", ""), ("POST", "/rotate-key")):
        assert (await world.call(method, f"/v1/agents/{made['id']}{path}")).status == 404
    assert (await world.call("DELETE", f"/v1/clusters/a/join-tokens/{made['id']}")).status == 404
