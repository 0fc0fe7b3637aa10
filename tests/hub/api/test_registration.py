"""`POST /v1/clusters`: with everything that brings the agents in, when that is asked for."""

from __future__ import annotations

import yaml

from tests.hub.api.hubworld import HubWorld
from tests.hub.api.test_manifests import pinned


async def test_a_cluster_comes_with_all_forms_when_that_is_asked_for(world: HubWorld) -> None:
    await pinned(world)
    plain = (await world.call("POST", "/v1/clusters", {"name": "a"})).json
    assert (plain["command"], plain["manifest"]) == ("riata clusters manifest a | kubectl apply -f -", None)
    assert (await world.call("GET", "/v1/clusters/a/join-tokens")).json == {"items": []}
    made = await world.call("POST", "/v1/clusters", {"name": "a", "manifest": {"profile": "read-only"}})
    assert (made.status, made.json["uid"]) == (200, plain["uid"])
    assert made.json["manifest"]["shell"].startswith("sh <<'RIATA_END'\n")
    assert yaml.safe_load(made.json["manifest"]["values"])["rbac"]["profile"] == "read-only"
    world.pins = set()
    without = (await world.call("POST", "/v1/clusters", {"name": "b", "manifest": {}})).json
    assert without["manifest"] is None
    assert "agent_pins" in without["obstacle"]
    bad = await world.call("POST", "/v1/clusters", {"name": "c", "manifest": {"image": "$(id)"}})
    assert (bad.status, bad.json["details"]["causes"][0]["field"]) == (422, "manifest.image")
    assert (await world.call("GET", "/v1/clusters/c")).status == 404
