"""`GET /v1/ca/rotation`: for administrators, each agent with what it knows."""

from __future__ import annotations

from hub.carotation import Phase
from hub.catrust import Rotation, Standing
from tests.hub.api.hubworld import HubWorld

PIN = "sha256:" + "a" * 64


async def test_the_rotation_as_it_is(world: HubWorld) -> None:
    assert (await world.call("GET", "/v1/ca/rotation")).json["phase"] == "steady"
    standing = Standing("k1", "alpha", "node", "n1", "ab", True, True, False, "")
    world.rotation = Rotation(Phase.SWITCHED, PIN, (PIN,), (standing,))
    shown = (await world.call("GET", "/v1/ca/rotation")).json
    assert (shown["phase"], shown["pin"], shown["acceptedPins"]) == ("switched", PIN, [PIN])
    (agent,) = shown["agents"]
    assert (agent["id"], agent["node"], agent["knows"], agent["keeps"]) == ("k1", "n1", True, False)


async def test_it_is_for_administrators(world: HubWorld) -> None:
    assert (await world.call("GET", "/v1/ca/rotation", token="")).status == 401
