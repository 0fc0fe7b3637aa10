"""`/v1/clean-ups`: what a deletion answers, and what is left of it."""

from __future__ import annotations

import asyncio

from hub.clusters.cleanups import NOT_CONNECTED
from tests.harness.records import captured
from tests.hub.api.hubworld import FakeTunnel, HubWorld


async def used(world: HubWorld, name: str = "a") -> str:
    """A cluster that somebody was given a join token for; its uid."""
    uid = str((await world.call("POST", "/v1/clusters", {"name": name})).json["uid"])
    await world.call("POST", f"/v1/clusters/{name}/join-tokens", {})
    return uid


async def test_nothing_is_left_of_a_cluster_that_nobody_used(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    assert (await world.call("DELETE", "/v1/clusters/a")).status == 204
    assert (await world.call("GET", "/v1/clean-ups")).json == {"items": []}


async def test_without_an_agent_it_is_pending_with_the_command(world: HubWorld) -> None:
    uid = await used(world)
    deleted = await world.call("DELETE", "/v1/clusters/a")
    assert (deleted.status, deleted.json["state"], deleted.json["deletedBy"]) == (200, "pending", "admin")
    assert f"-l riata.io/cluster-uid={uid};" in deleted.json["command"]
    assert (await world.call("GET", "/v1/clean-ups")).json == {"items": [deleted.json]}
    assert (await world.call("GET", f"/v1/clean-ups/{uid}")).json == deleted.json
    assert (await world.call("GET", "/v1/clusters/a")).status == 404
    assert (await world.call("DELETE", f"/v1/clean-ups/{uid}")).status == 204
    for method in ("GET", "DELETE"):
        assert (await world.call(method, f"/v1/clean-ups/{uid}")).status == 404


async def test_what_nobody_is_there_to_remove_is_audited_as_pending_behind_the_deletion(world: HubWorld) -> None:
    uid = await used(world)
    with captured("riata.audit") as logged:
        await world.call("DELETE", "/v1/clusters/a")
    assert [(event["event"], event["cluster_uid"], event["user"]) for event in logged] == [
        ("cluster-deleted", uid, "admin"),
        ("clean-up-pending", uid, "admin"),
    ]
    assert logged[1]["reason"] == NOT_CONNECTED


async def test_the_name_is_free_at_once_and_both_are_told_apart(world: HubWorld) -> None:
    old = await used(world)
    await world.call("DELETE", "/v1/clusters/a")
    new = await used(world)
    assert new != old
    await world.call("DELETE", "/v1/clusters/a")
    items = (await world.call("GET", "/v1/clean-ups")).json["items"]
    assert [(each["cluster"], each["id"]) for each in items] == [("a", old), ("a", new)]


async def test_who_deletes_it_at_the_same_time_is_told_that_it_is_gone(world: HubWorld) -> None:
    """Nothing is in their way: five of six were told of a conflict, and to try again."""
    uid = await used(world)
    world.tunnels.live[uid] = [FakeTunnel()]
    with captured("riata.audit") as logged:
        answers = await asyncio.gather(*(world.call("DELETE", "/v1/clusters/a") for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 404, 404, 404, 404, 404]
    assert [event["event"] for event in logged] == ["cluster-deleted"]
    (kept,) = world.clean_ups
    assert (kept.id, kept.state) == (uid, "running")


async def test_with_an_agent_it_runs_over_the_route_of_now(world: HubWorld) -> None:
    uid = await used(world)
    world.tunnels.live[uid] = [FakeTunnel(instance="cd" * 16)]
    deleted = await world.call("DELETE", "/v1/clusters/a")
    assert deleted.json["state"] == "running"
    found = world.clean_ups.get(uid)
    assert found is not None
    assert (found.instance, found.deleted_by) == ("cd" * 16, "admin")
    assert ("sessions of", uid) in world.tunnels.cuts


async def test_it_is_for_hub_administrators(world: HubWorld) -> None:
    uid = await used(world)
    await world.call("DELETE", "/v1/clusters/a")
    jane = await world.mint("jane")
    for method, path in (("GET", ""), ("GET", f"/{uid}"), ("DELETE", f"/{uid}")):
        assert (await world.call(method, f"/v1/clean-ups{path}", token=jane)).status == 403
