"""Tokens that were made with a token: who steals one has those too, and they end together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hub.api import tokens as tokens_api
from hub.api.tokens import FAMILIES_MAX
from hub.auth.tokens import LINEAGE_MAX, TokenRecord
from proto.aio.tasks import TaskGroup
from tests.harness.records import captured
from tests.hub.api.hubworld import Answer, HubWorld

BODY = {"name": "x", "expiresInSeconds": 60}


def id_of(text: str) -> str:
    return text.split("_")[1]


async def make(world: HubWorld, token: str, **more: object) -> str:
    """The text of a token that was made with this one."""
    made = await world.call("POST", "/v1/tokens", {**BODY, **more}, token=token)
    assert made.status == 201
    return str(made.json["token"])


async def revoke_all(world: HubWorld, text: str, *, token: str | None = None) -> Answer:
    return await world.call("DELETE", f"/v1/tokens/{id_of(text)}/with-descendants", token=token)


async def test_each_token_says_with_which_it_was_made(world: HubWorld) -> None:
    jane = await world.mint("jane")
    with captured("riata.audit") as logged:
        child = await make(world, jane)
    assert logged[0]["by_token"] == id_of(jane)
    shown = {
        item["id"]: item["createdWith"] for item in (await world.call("GET", "/v1/tokens", token=jane)).json["items"]
    }
    assert shown == {id_of(jane): "", id_of(child): id_of(jane)}


async def test_with_a_stolen_token_goes_what_was_made_with_it(world: HubWorld) -> None:
    stolen, other = await world.mint("jane"), await world.mint("jane")
    child = await make(world, stolen)
    grandchild = await make(world, child)
    mine = await make(world, other)
    with captured("riata.audit") as logged:
        answer = await revoke_all(world, stolen, token=other)
    gone = [id_of(text) for text in (stolen, child, grandchild)]
    assert (answer.status, [item["id"] for item in answer.json["items"]]) == (200, gone)
    assert [(record["event"], record["token_id"]) for record in logged] == [("token-revoked", each) for each in gone]
    assert {("exchanges of", each) for each in gone} <= set(world.tunnels.cuts)
    statuses = [
        (await world.call("GET", "/v1/whoami", token=text)).status for text in (stolen, child, grandchild, mine)
    ]
    assert statuses == [401, 401, 401, 200]


async def test_a_token_in_between_that_is_gone_hides_nothing(world: HubWorld) -> None:
    """The thief revokes it after use, or it has expired."""
    stolen = await world.mint("jane")
    child = await make(world, stolen)
    grandchild = await make(world, child)
    assert (await world.call("DELETE", f"/v1/tokens/{id_of(child)}", token=child)).status == 204
    assert (await revoke_all(world, stolen)).status == 200
    assert (await world.call("GET", "/v1/whoami", token=grandchild)).status == 401


async def test_the_stolen_one_may_be_revoked_already(world: HubWorld) -> None:
    stolen, own = await world.mint("jane"), await world.mint("jane")
    child = await make(world, stolen)
    assert (await world.call("DELETE", f"/v1/tokens/{id_of(stolen)}")).status == 204
    assert (await world.call("GET", "/v1/whoami", token=child)).status == 200  # alone it ends alone
    answer = await revoke_all(world, stolen, token=own)
    assert [item["id"] for item in answer.json["items"]] == [id_of(child)]
    assert (await revoke_all(world, stolen, token=own)).status == 403  # as anybody's that does not exist
    assert (await revoke_all(world, stolen)).status == 404


async def test_what_is_made_meanwhile_goes_too(world: HubWorld) -> None:
    stolen = await world.mint("jane")
    children = [await make(world, stolen) for _ in range(5)]

    async def go_on(text: str) -> None:
        """As fast as it goes, each with the one before, until one is refused."""
        made = await world.call("POST", "/v1/tokens", BODY, token=text)
        if made.status == 201:
            await go_on(made.json["token"])

    thieves = [go_on(text) for text in (stolen, *children)]
    _, answer = await asyncio.gather(asyncio.gather(*thieves), revoke_all(world, stolen))
    assert answer.status == 200
    assert [record.user for record in world.tokens] == ["admin"]


async def test_a_token_that_is_revoked_while_it_makes_one_leaves_none(world: HubWorld) -> None:
    jane = await world.mint("jane")
    made, revoked = await asyncio.gather(
        world.call("POST", "/v1/tokens", BODY, token=jane), world.call("DELETE", f"/v1/tokens/{id_of(jane)}")
    )
    assert (made.status, revoked.status) == (401, 204)
    assert [record.user for record in world.tokens] == ["admin"]


async def test_without_administration_only_where_all_are_ones_own(world: HubWorld) -> None:
    """Jane was an administrator when she made Bob's."""
    whole, narrow, bob = await world.mint("jane", "ops"), await world.mint("jane"), await world.mint("bob")
    await world.call("POST", "/v1/grants", {"name": "jane-1", "role": "hub-admin", "user": "jane"})
    theirs = await make(world, whole, user="bob")
    await world.call("DELETE", "/v1/grants/jane-1")
    for text, token in ((whole, narrow), (whole, whole), (whole, bob), (narrow, bob)):
        assert (await revoke_all(world, text, token=token)).status == 403
    assert (await world.call("GET", "/v1/whoami", token=theirs)).status == 200
    assert (await revoke_all(world, whole)).status == 200
    assert (await world.call("GET", "/v1/whoami", token=theirs)).status == 401


async def test_what_would_be_revoked_is_shown_to_those_who_may(world: HubWorld) -> None:
    stolen, other, bob = await world.mint("jane"), await world.mint("jane"), await world.mint("bob")
    child = await make(world, stolen)
    grandchild = await make(world, child)
    await world.call("DELETE", f"/v1/tokens/{id_of(child)}")
    path = f"/v1/tokens/{id_of(stolen)}/with-descendants"
    shown = await world.call("GET", path, token=other)
    assert [item["id"] for item in shown.json["items"]] == [id_of(stolen), id_of(grandchild)]
    assert (await world.call("GET", path, token=bob)).status == 403
    assert (await world.call("GET", "/v1/tokens/nothing/with-descendants")).status == 404
    assert (await world.call("GET", "/v1/whoami", token=grandchild)).status == 200


class Looked:
    """Counts how often all tokens are looked through, and lets as many as may not come to its end until `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, self.go, self.are_as_many_as_may = 0, asyncio.Event(), asyncio.Event()
        self._made_with = tokens_api.made_with
        monkeypatch.setattr(tokens_api, "made_with", self.made_with)

    async def made_with(self, index: Iterator[TokenRecord], token_id: str) -> list[TokenRecord]:
        self.times += 1
        if self.times == FAMILIES_MAX:
            self.are_as_many_as_may.set()
        if self.times <= FAMILIES_MAX:
            await self.go.wait()
        return await self._made_with(index, token_id)  # type: ignore[arg-type]


async def test_who_may_not_has_nothing_looked_through(world: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, looked = await world.mint("bob"), Looked(monkeypatch)
    looked.go.set()
    assert (await revoke_all(world, world.admin, token=bob)).status == 403
    assert looked.times == 0


async def test_one_user_has_few_of_them_under_way(world: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """All changes have room for a thousand, and what is gone may be anybody's until all are looked through."""
    bob, jane, gone = await world.mint("bob"), await world.mint("jane"), "riata_gone000000_x"
    stolen = await world.mint("bob")
    looked = Looked(monkeypatch)
    async with TaskGroup("bob") as tasks:
        waiting = [tasks.spawn(revoke_all(world, gone, token=bob), name="call") for _ in range(FAMILIES_MAX)]
        await looked.are_as_many_as_may.wait()
        refused = await revoke_all(world, gone, token=bob)
        assert (refused.status, refused.headers["retry-after"], looked.times) == (429, "1", FAMILIES_MAX)
        assert f"{FAMILIES_MAX} of your revocations" in refused.json["message"]
        for path in (f"{id_of(stolen)}/with-descendants", id_of(bob)):  # what exists ends all the same
            assert (await world.call("DELETE", f"/v1/tokens/{path}", token=bob)).status < 300
        looked.go.set()
        assert (await revoke_all(world, jane, token=jane)).status == 200
        await tasks.wait()
    assert [each.result().status for each in waiting] == [403] * FAMILIES_MAX
    assert not world.services.families


async def test_no_chain_of_tokens_leads_out_of_a_lineage(world: HubWorld) -> None:
    """A thief who makes each token with the one before, and revokes that one, comes to an end before the stolen one
    would have to be left out."""
    stolen = await world.mint("jane")
    way = (id_of(stolen), *(f"gone{number}" for number in range(1, LINEAGE_MAX)))
    near, end = [
        (await world.token_writer.create(name="t", user="jane", lifetime_s=60.0, created_by="jane", lineage=lineage))
        for lineage in (way[:-1], way)
    ]
    await world.follower.reached(end[2])
    last = await make(world, near[1].text)
    for text in (last, end[1].text):
        refused = await world.call("POST", "/v1/tokens", BODY, token=text)
        assert refused.status == 409
        assert f"descends from {LINEAGE_MAX} others" in refused.json["message"]
        assert "`riata login` with another" in refused.json["message"]
    assert len((await revoke_all(world, stolen)).json["items"]) == 4
    assert [record.user for record in world.tokens] == ["admin"]


async def test_one_that_was_cut_short_is_done_by_the_next_call(world: HubWorld) -> None:
    """And leaves nothing where the token was, though there is nothing to revoke any more."""
    for has_child in (True, False):
        stolen = await world.mint("jane")
        child = await make(world, stolen) if has_child else ""
        await world.follower.reached(await world.token_writer.close(id_of(stolen)))
        answer = await revoke_all(world, stolen)
        assert answer.status == (200 if has_child else 404)
        if has_child:
            assert (await world.call("GET", "/v1/whoami", token=child)).status == 401
        assert [item.key.name for item in (await world.store.list("token")).items] == [id_of(world.admin)]
