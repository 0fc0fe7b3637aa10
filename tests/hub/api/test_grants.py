"""`/v1/grants`: bound to uids, idempotent, and the hub cannot lose its last administrator by mistake."""

from __future__ import annotations

import asyncio

import pytest

from proto.logs import redact
from tests.harness.records import captured
from tests.hub.api.hubworld import HubWorld


async def test_create_show_list_delete(world: HubWorld) -> None:
    cluster = await world.call("POST", "/v1/clusters", {"name": "a"})
    body = {"name": "g", "user": "jane", "cluster": "a", "role": "admin", "impersonate": {"users": ["bob", "*"]}}
    made = await world.call("POST", "/v1/grants", body)
    assert made.status == 201
    assert made.json["impersonate"] == {"users": ["bob", "*"], "groups": []}
    assert (made.json["cluster"], made.json["role"], made.json["group"]) == ("a", "admin", None)
    assert (await world.call("GET", "/v1/grants/g")).json == made.json
    assert made.json in (await world.call("GET", "/v1/grants")).json["items"]
    assert (await world.call("DELETE", "/v1/grants/g")).status == 204
    assert (await world.call("GET", "/v1/grants/g")).status == 404
    assert (await world.call("DELETE", "/v1/grants/g")).status == 404
    assert ("recheck", cluster.json["uid"]) in world.tunnels.cuts


async def test_repeating_changes_nothing_and_a_difference_conflicts(world: HubWorld) -> None:
    body = {"name": "g", "user": "jane", "cluster": "*"}
    first = await world.call("POST", "/v1/grants", body)
    world.clock.now += 10
    again = await world.call("POST", "/v1/grants", body)
    other = await world.call("POST", "/v1/grants", {**body, "role": "admin"})
    assert (first.status, again.status, other.status) == (201, 200, 409)
    assert first.json == again.json


async def test_whoever_makes_the_same_grant_at_the_same_time_gets_it_too(world: HubWorld) -> None:
    body = {"name": "g", "user": "jane", "cluster": "*"}
    answers = await asyncio.gather(*(world.call("POST", "/v1/grants", body) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 201]
    assert all(answer.json == answers[0].json for answer in answers)


async def test_the_last_hub_administration_stays(world: HubWorld) -> None:
    assert (await world.call("DELETE", "/v1/grants/hub-admin")).status == 409
    await world.call("POST", "/v1/grants", {"name": "more", "group": "ops", "role": "hub-admin"})
    assert (await world.call("DELETE", "/v1/grants/hub-admin")).status == 204
    assert (await world.call("GET", "/v1/clusters", token=await world.mint("x", "ops"))).status == 200
    assert (await world.call("POST", "/v1/clusters", {"name": "a"})).status == 403


async def test_the_last_two_hub_administrations_are_not_deleted_together(world: HubWorld) -> None:
    """Each of the two sees the other's grant when it asks whether its own is the last one."""
    await world.call("POST", "/v1/grants", {"name": "more", "user": "bob", "role": "hub-admin"})
    names = ("hub-admin", "more")
    answers = await asyncio.gather(*(world.call("DELETE", f"/v1/grants/{name}") for name in names))
    kept = [name for name, answer in zip(names, answers, strict=True) if answer.status == 409]
    assert kept
    assert [grant.name for grant in world.grants] == kept
    assert sorted(answer.status for answer in answers) in ([204, 409], [409, 409])


async def test_people_see_their_own_grants(world: HubWorld) -> None:
    await world.call("POST", "/v1/grants", {"name": "one", "group": "dev"})
    jane = await world.mint("jane", "dev")
    assert [item["name"] for item in (await world.call("GET", "/v1/grants", token=jane)).json["items"]] == ["one"]
    assert (await world.call("GET", "/v1/grants/one", token=jane)).status == 200
    other = await world.call("GET", "/v1/grants/hub-admin", token=jane)
    absent = await world.call("GET", "/v1/grants/no-admins", token=jane)
    assert other.status == absent.status == 403
    assert (await world.call("POST", "/v1/grants", {"name": "x", "user": "jane"}, token=jane)).status == 403
    assert (await world.call("DELETE", "/v1/grants/one", token=jane)).status == 403


async def test_a_limited_token_sees_the_grants_of_its_clusters_only(world: HubWorld) -> None:
    """Where else its user may go, and as whom, is nothing for the program that has it."""
    for name in ("a", "b"):
        await world.call("POST", "/v1/clusters", {"name": name})
    acts_as = {"users": ["bob"]}
    for name, cluster in (("on-a", "a"), ("on-b", "b"), ("on-all", "*")):
        body = {"name": name, "user": "jane", "cluster": cluster, "impersonate": acts_as}
        assert (await world.call("POST", "/v1/grants", body)).status == 201
    limited, whole = await world.mint("jane", scope=("a",)), await world.mint("jane")
    seen = [await world.call("GET", "/v1/grants", token=token) for token in (limited, whole)]
    assert [[item["name"] for item in answer.json["items"]] for answer in seen] == [
        ["on-a", "on-all"], ["on-a", "on-all", "on-b"],
    ]  # fmt: skip
    assert (await world.call("GET", "/v1/grants/on-a", token=limited)).status == 200
    elsewhere = await world.call("GET", "/v1/grants/on-b", token=limited)
    absent = await world.call("GET", "/v1/grants/on-c", token=limited)
    assert elsewhere.status == absent.status == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": None}, {"group": "dev"}, {"user": "system:x"}, {"user": "hub:x"}, {"role": "owner"}, {"role": "Use"},
        {"role": "hub-admin", "cluster": "a"}, {"cluster": "A"}, {"cluster": ""}, {"name": "-"}, {"name": "a/b"},
        {"impersonate": {"users": ["system:masters"]}}, {"impersonate": {"uids": ["1"]}}, {"impersonate": []},
        {"impersonate": {"groups": ["hub:cluster-admins"]}},
    ],
)  # fmt: skip
async def test_bad_grants_are_refused(world: HubWorld, wrong: dict[str, object]) -> None:
    answer = await world.call("POST", "/v1/grants", {"name": "g", "user": "jane", "cluster": "*", **wrong})
    assert answer.status == 422


async def test_a_grant_needs_an_existing_cluster(world: HubWorld) -> None:
    assert (await world.call("POST", "/v1/grants", {"name": "g", "user": "jane", "cluster": "a"})).status == 404


async def test_giving_and_taking_back_are_audited_with_user_and_peer(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    body = {"name": "g", "group": "dev", "cluster": "a", "role": "admin", "impersonate": {"users": ["bob"]}}
    with captured("riata.audit") as logged:
        for _ in range(2):  # repeating it makes nothing
            await world.call("POST", "/v1/grants", body)
        for _ in range(2):
            await world.call("DELETE", "/v1/grants/g")
    fields = {
        "level": "info", "audit": True, "grant": "g", "subject": "group:dev", "role": "admin", "cluster": "a",
        "cluster_uid": uid, "acts_as_users": ["bob"], "acts_as_groups": [], "user": "admin",
        "peer": "192.0.2.1:4000",
    }  # fmt: skip
    assert logged == [{"event": "grant-made", **fields}, {"event": "grant-removed", **fields}]
    assert [redact(record) for record in logged] == logged


async def test_a_grant_that_is_put_back_is_made_for_the_audit_log_too(world: HubWorld) -> None:
    await world.call("POST", "/v1/grants", {"name": "more", "user": "bob", "role": "hub-admin"})
    with captured("riata.audit") as logged:
        await asyncio.gather(*(world.call("DELETE", f"/v1/grants/{name}") for name in ("hub-admin", "more")))
    assert sum(record["event"] == "grant-removed" for record in logged) == 2
    there = {"hub-admin", "more"}
    for record in logged:
        (there.add if record["event"] == "grant-made" else there.remove)(record["grant"])
    assert there == {grant.name for grant in world.grants}
    assert there
