"""`/v1/tokens`: nobody mints a right that they do not have."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hub.api import tokens
from hub.config import ApiSettings
from proto.logs import redact
from tests.harness.records import captured
from tests.hub.api.hubworld import HubWorld, hub_world


async def test_an_administrator_makes_tokens_for_others(world: HubWorld) -> None:
    body = {"name": "ci", "user": "jane", "groups": ["dev", "dev"], "expiresInSeconds": 60}
    made = await world.call("POST", "/v1/tokens", body)
    assert made.status == 201
    assert made.json["token"].startswith(f"riata_{made.json['id']}_")
    who = (await world.call("GET", "/v1/whoami", token=made.json["token"])).json
    assert who == {
        "user": "jane",
        "groups": ["dev"],
        "admin": False,
        "token": made.json["id"],
        "tokenExpiresAt": made.json["expiresAt"],
        "clusters": None,
    }
    listed = (await world.call("GET", "/v1/tokens")).json["items"]
    assert made.json["token"] not in str(listed)
    assert {item["id"] for item in listed} >= {made.json["id"]}


async def test_a_token_ends_when_it_expires(world: HubWorld) -> None:
    token = await world.mint("jane", lifetime_s=60.0)
    world.clock.now += 59
    assert (await world.call("GET", "/v1/whoami", token=token)).status == 200
    world.clock.now += 1
    assert (await world.call("GET", "/v1/whoami", token=token)).status == 401


async def test_revocation_is_felt_at_once(world: HubWorld) -> None:
    token = await world.mint("jane")
    token_id = token.split("_")[1]
    assert (await world.call("DELETE", f"/v1/tokens/{token_id}")).status == 204
    assert ("exchanges of", token_id) in world.tunnels.cuts
    assert (await world.call("GET", "/v1/whoami", token=token)).status == 401
    assert (await world.call("DELETE", f"/v1/tokens/{token_id}")).status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tokens", {"name": "x", "expiresInSeconds": 10**10}),
        ("/v1/grants", {"name": "mine", "role": "hub-admin", "user": "mallory"}),
    ],
)
async def test_a_request_whose_body_comes_after_the_revocation_is_refused(
    world: HubWorld, path: str, body: dict[str, object]
) -> None:
    granted = {"name": "mallory-1", "role": "hub-admin", "user": "mallory"}
    assert (await world.call("POST", "/v1/grants", granted)).status == 201
    token = await world.mint("mallory", lifetime_s=600.0)
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"

    async def revoke() -> None:
        await world.call("DELETE", "/v1/grants/mallory-1")
        await world.call("DELETE", f"/v1/tokens/{token.split('_')[1]}")

    answer = await world.raw(head.encode() + content[:1], meanwhile=revoke, rest=content[1:])
    assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")
    assert [record.user for record in world.tokens] == ["admin"]
    assert list(world.grants.of("mallory", ())) == []


async def test_without_administration_only_for_oneself(world: HubWorld) -> None:
    jane = await world.mint("jane", "dev", "ops")
    made = await world.call("POST", "/v1/tokens", {"name": "mine", "expiresInSeconds": 60}, token=jane)
    assert (made.status, made.json["user"], made.json["groups"]) == (201, "jane", ["dev", "ops"])
    narrow = {"name": "mine", "groups": ["dev"], "user": "jane", "expiresInSeconds": 60}
    assert (await world.call("POST", "/v1/tokens", narrow, token=jane)).json["groups"] == ["dev"]
    for wider in ({"user": "admin"}, {"groups": ["dev", "admins"]}, {"user": "bob", "groups": []}):
        body = {"name": "x", "expiresInSeconds": 60, **wider}
        assert (await world.call("POST", "/v1/tokens", body, token=jane)).status == 403


async def test_a_token_never_outlives_the_one_that_made_it(world: HubWorld) -> None:
    jane = await world.mint("jane", lifetime_s=100.0)
    made = await world.call("POST", "/v1/tokens", {"name": "x", "expiresInSeconds": 10_000}, token=jane)
    assert made.json["expiresAt"] == (await world.call("GET", "/v1/whoami", token=jane)).json["tokenExpiresAt"]


async def test_the_hub_has_a_longest_life(world: HubWorld) -> None:
    made = (await world.call("POST", "/v1/tokens", {"name": "x", "expiresInSeconds": 10**9})).json
    record = world.tokens.get(made["id"])
    assert record is not None
    assert record.expires_at == world.clock.now + ApiSettings().token_lifetime_max_s


async def test_scope_only_narrows(world: HubWorld) -> None:
    for name in ("a", "b"):
        await world.call("POST", "/v1/clusters", {"name": name})
        await world.call("POST", "/v1/grants", {"name": f"jane-{name}", "user": "jane", "cluster": name})
    jane = await world.mint("jane", scope=("a",))
    inherited = await world.call("POST", "/v1/tokens", {"name": "x", "expiresInSeconds": 60}, token=jane)
    assert inherited.json["clusters"] == ["a"]
    wider = {"name": "x", "expiresInSeconds": 60, "clusters": ["a", "b"]}
    assert (await world.call("POST", "/v1/tokens", wider, token=jane)).status == 403
    wide = await world.mint("jane")
    assert (await world.call("POST", "/v1/tokens", wider, token=wide)).json["clusters"] == ["a", "b"]
    unknown = {"name": "x", "expiresInSeconds": 60, "clusters": ["nowhere"]}
    assert (await world.call("POST", "/v1/tokens", unknown, token=wide)).status == 403
    assert (await world.call("POST", "/v1/tokens", unknown)).status == 404


async def test_a_limited_token_of_an_administrator_does_not_administer(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    limited = await world.mint("admin", scope=("a",))
    assert (await world.call("GET", "/v1/whoami", token=limited)).json["admin"] is False
    assert (await world.call("GET", "/v1/clusters/a", token=limited)).status == 200
    assert (await world.call("POST", "/v1/clusters", {"name": "b"}, token=limited)).status == 403
    assert (
        await world.call("POST", "/v1/tokens", {"name": "x", "user": "jane", "expiresInSeconds": 9}, token=limited)
    ).status == 403
    assert admin_id(world) not in str((await world.call("GET", "/v1/tokens", token=limited)).json)
    assert (await world.call("DELETE", f"/v1/tokens/{admin_id(world)}", token=limited)).status == 403


def admin_id(world: HubWorld) -> str:
    return world.admin.split("_")[1]


async def test_others_tokens_are_neither_seen_nor_revoked(world: HubWorld) -> None:
    jane, bob = await world.mint("jane"), await world.mint("bob")
    listed = (await world.call("GET", "/v1/tokens", token=jane)).json["items"]
    assert [item["user"] for item in listed] == ["jane"]
    theirs = await world.call("DELETE", f"/v1/tokens/{bob.split('_')[1]}", token=jane)
    absent = await world.call("DELETE", "/v1/tokens/aaaaaaaaaa", token=jane)
    assert theirs.status == absent.status == 403
    assert (await world.call("DELETE", f"/v1/tokens/{jane.split('_')[1]}", token=jane)).status == 204


async def test_a_token_with_fewer_groups_neither_sees_nor_revokes_those_with_more(world: HubWorld) -> None:
    """Whoever steals a program's token would lock its user out."""
    whole, narrow = await world.mint("jane", "ops"), await world.mint("jane")
    listed = (await world.call("GET", "/v1/tokens", token=narrow)).json["items"]
    assert [item["id"] for item in listed] == [narrow.split("_")[1]]
    assert (await world.call("DELETE", f"/v1/tokens/{whole.split('_')[1]}", token=narrow)).status == 403
    assert len((await world.call("GET", "/v1/tokens", token=whole)).json["items"]) == 2
    assert (await world.call("DELETE", f"/v1/tokens/{narrow.split('_')[1]}", token=whole)).status == 204


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "system:admin"}, {"user": "hub:x"}, {"user": "é"}, {"user": ""}, {"user": "a\r\nb"}, {"user": "*"},
        {"groups": ["system:masters"]}, {"groups": ["Hub:cluster-admins"]}, {"groups": "dev"}, {"expiresInSeconds": 0},
        {"expiresInSeconds": -1}, {"expiresInSeconds": "60"}, {"expiresInSeconds": 1.5}, {"expiresInSeconds": None},
        {"clusters": []}, {"name": ""}, {"name": "x\x00"}, {"name": None}, {"groups": [f"g{n}" for n in range(65)]},
        {"user": "x" * 254},
    ],
)  # fmt: skip
async def test_bad_tokens_are_refused(world: HubWorld, wrong: dict[str, object]) -> None:
    answer = await world.call("POST", "/v1/tokens", {"name": "x", "expiresInSeconds": 60, **wrong})
    assert answer.status == 422
    assert answer.json["reason"] == "Invalid"


async def test_nobody_fills_the_store(tmp_path: Path) -> None:
    async with hub_world(tmp_path, tokens_per_user_max=3) as world:
        jane = await world.mint("jane", lifetime_s=100.0)
        await world.mint("jane", lifetime_s=1.0)
        body = {"name": "x", "expiresInSeconds": 60}
        assert (await world.call("POST", "/v1/tokens", body, token=jane)).status == 201
        assert (await world.call("POST", "/v1/tokens", body, token=jane)).status == 409
        assert (await world.call("POST", "/v1/tokens", {**body, "user": "jane"})).status == 201
        world.clock.now += 90
        assert (await world.call("POST", "/v1/tokens", body, token=jane)).status == 201


async def test_expired_tokens_fill_the_store_no_more_than_valid_ones(tmp_path: Path) -> None:
    """An honest CI that makes short ones is not locked out: its oldest expired ones make room."""
    async with hub_world(tmp_path, tokens_per_user_max=3) as world:
        jane, bob = await world.mint("jane", lifetime_s=1000.0), await world.mint("bob", lifetime_s=1.0)
        body = {"name": "x", "expiresInSeconds": 1}
        made = []
        for _ in range(10):
            answer = await world.call("POST", "/v1/tokens", body, token=jane)
            made.append((answer.status, answer.json["id"]))
            world.clock.now += 2
        assert [status for status, _ in made] == [201] * 10
        own = {record.id for record in world.tokens if record.user == "jane"}
        assert own == {jane.split("_")[1], made[-2][1], made[-1][1]}
        stored = [item.key.name for item in (await world.store.list("token")).items]
        assert len(stored) == len(own) + len(["admin", "bob"])
        assert bob.split("_")[1] in stored  # somebody else's record is never what makes room


async def test_nobody_fills_the_memory_with_names_of_clusters(world: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred tokens of five thousand clusters each would be hundreds of megabytes in every worker."""
    monkeypatch.setattr(tokens, "NAMED_MAX", 4)
    for name in ("a", "b"):
        await world.call("POST", "/v1/clusters", {"name": name})
    await world.call("POST", "/v1/grants", {"name": "all", "user": "jane", "cluster": "*", "role": "use"})
    jane = await world.mint("jane", lifetime_s=1000.0)
    body = {"name": "x", "expiresInSeconds": 60, "clusters": ["a", "b"]}
    made = [await world.call("POST", "/v1/tokens", body, token=jane) for _ in range(3)]
    assert [answer.status for answer in made] == [201, 201, 409]
    assert "name 4 clusters together" in made[-1].json["message"]
    unlimited = {"name": "x", "expiresInSeconds": 60}
    assert (await world.call("POST", "/v1/tokens", unlimited, token=jane)).status == 201
    assert (await world.call("POST", "/v1/tokens", {**body, "user": "jane"})).status == 201  # by an administrator
    assert not world.services.clusters_in_the_making
    world.clock.now += 61  # the oldest of those that have expired make room
    assert (await world.call("POST", "/v1/tokens", {**body, "clusters": ["a"]}, token=jane)).status == 201
    assert sum(len(record.cluster_uids or ()) for record in world.tokens if record.user == "jane") <= 4


async def test_many_at_once_do_not_pass_the_bound_together(tmp_path: Path) -> None:
    async with hub_world(tmp_path, tokens_per_user_max=5) as world:
        jane = await world.mint("jane", lifetime_s=1000.0)
        await world.mint("jane", lifetime_s=1.0)
        world.clock.now += 2
        body = {"name": "x", "expiresInSeconds": 60}
        answers = await asyncio.gather(*(world.call("POST", "/v1/tokens", body, token=jane) for _ in range(20)))
        assert sorted(answer.status for answer in answers) == [201] * 4 + [409] * 16
        assert sum(record.user == "jane" for record in world.tokens) == 5
        made = next(answer.json["id"] for answer in answers if answer.status == 201)
        assert (await world.call("DELETE", f"/v1/tokens/{made}", token=jane)).status == 204
        assert (await world.call("POST", "/v1/tokens", body, token=jane)).status == 201  # nothing stays taken
        assert not world.services.tokens_in_the_making


async def test_making_and_revoking_are_audited_with_who_and_from_where(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    body = {"name": "ci", "user": "jane", "groups": ["dev"], "clusters": ["a"], "expiresInSeconds": 60}
    with captured("riata.audit") as logged:
        made = (await world.call("POST", "/v1/tokens", body)).json
        await world.call("POST", "/v1/tokens", {**body, "user": "bob"}, token=made["token"])  # refused: no event
        await world.call("DELETE", f"/v1/tokens/{admin_id(world)}", token=made["token"])
        for _ in range(2):
            await world.call("DELETE", f"/v1/tokens/{made['id']}")
    fields = {
        "level": "info", "audit": True, "token_id": made["id"], "user": "jane", "groups": ["dev"], "clusters": ["a"],
        "by": "admin", "by_token": admin_id(world), "peer": "192.0.2.1:4000",
    }  # fmt: skip
    assert logged == [{"event": "token-made", **fields}, {"event": "token-revoked", **fields}]
    assert [redact(record) for record in logged] == logged
    assert made["token"].split("_")[2] not in str(logged)
