"""`/v1/clusters/{cluster}/manifest`: everything that an agent needs, a fresh join token inside, or nothing made."""

from __future__ import annotations

import pytest
import trustme
import yaml

from proto import pins
from tests.hub.api.hubworld import HubWorld


async def test_a_manifest_holds_url_pin_ca_and_a_token_of_its_own(world: HubWorld) -> None:
    uid = (await world.call("POST", "/v1/clusters", {"name": "a"})).json["uid"]
    world.ca = trustme.CA().cert_pem.bytes()
    (pin,) = pins.pins_of_pem(world.ca)
    world.pins = {pin}
    made = await world.call("POST", "/v1/clusters/a/manifest", {"nodeAgents": True})
    assert made.status == 201
    text = made.json["manifest"]
    documents = list(yaml.safe_load_all(text))
    assert {document["kind"] for document in documents} >= {"Namespace", "Secret", "Deployment", "DaemonSet"}
    assert f"riatajoin_{made.json['joinToken']}_" in text
    for part in ("https://hub.test", pin, "BEGIN CERTIFICATE", f"riata:h1:{uid}", "riata-agent:0.1.0", "--key-secret"):
        assert part in text or part.removeprefix("--").replace("-", "_").upper() in text, part
    (listed,) = (await world.call("GET", "/v1/clusters/a/join-tokens")).json["items"]
    assert (listed["id"], listed["expiresAt"]) == (made.json["joinToken"], made.json["expiresAt"])
    again = await world.call("POST", "/v1/clusters/a/manifest", {})
    assert again.json["joinToken"] != made.json["joinToken"]


@pytest.mark.parametrize(
    "body",
    [
        {"image": "a b"}, {"image": "x\nkind: ClusterRoleBinding"}, {"image": "$(id)"}, {"profile": "root"},
        {"expiresInSeconds": 86_401}, {"nodeAgents": "yes"}, {"hubUrl": "https://evil.test"},
    ],
)  # fmt: skip
async def test_bad_values_make_no_token(world: HubWorld, body: dict[str, object]) -> None:
    await pinned(world)
    await world.call("POST", "/v1/clusters", {"name": "a"})
    assert (await world.call("POST", "/v1/clusters/a/manifest", body)).status in {409, 422}
    assert (await world.call("GET", "/v1/clusters/a/join-tokens")).json == {"items": []}


async def test_a_hub_that_cannot_be_pinned_or_reached_says_what_to_set(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    world.pins = set()
    assert "agent_pins" in (await world.call("POST", "/v1/clusters/a/manifest", {})).json["message"]
    await pinned(world)
    world.hub_url = "http://127.0.0.1:1"
    assert "public_url" in (await world.call("POST", "/v1/clusters/a/manifest", {})).json["message"]
    assert (await world.call("GET", "/v1/clusters/a/join-tokens")).json == {"items": []}
    jane = await world.mint("jane")
    assert (await world.call("POST", "/v1/clusters/a/manifest", {}, token=jane)).status == 403
    assert (await world.call("POST", "/v1/clusters/b/manifest", {})).status == 404


CA = trustme.CA().cert_pem.bytes()


async def pinned(world: HubWorld) -> None:
    world.ca = CA
    world.pins = set(pins.pins_of_pem(CA))


async def test_the_token_fetches_its_own_clusters_manifest_and_is_not_used_up(world: HubWorld) -> None:
    await pinned(world)
    await world.call("POST", "/v1/clusters", {"name": "a"})
    made = (await world.call("POST", "/v1/clusters/a/manifest", {"profile": "constrained", "nodeAgents": True})).json
    token = yaml.safe_load(made["values"])["token"]["value"]
    for _ in range(2):
        fetched = await world.call("GET", "/v1/manifest", token=token)
        assert (fetched.status, fetched.headers["content-type"]) == (200, "application/yaml")
        assert fetched.body.decode() == made["manifest"]
    (listed,) = (await world.call("GET", "/v1/clusters/a/join-tokens")).json["items"]
    assert listed["usedAt"] is None


@pytest.mark.parametrize("ca", [b"", CA], ids=["none", "the hub's own"])
async def test_without_the_ca_that_agents_meet_there_is_no_manifest(world: HubWorld, ca: bytes) -> None:
    """With the hub's own they would refuse the front for ever; with none /v1/ca would have nothing for them."""
    front = trustme.CA().cert_pem.bytes()
    world.ca = ca
    world.joining_pins = [*pins.pins_of_pem(front), *pins.pins_of_pem(CA)]
    await world.call("POST", "/v1/clusters", {"name": "a"})
    refused = await world.call("POST", "/v1/clusters/a/manifest", {})
    assert refused.status == 409
    assert f"({world.joining_pins[0]}): name the file of it in agent_ca" in refused.json["message"]
    assert (await world.call("GET", "/v1/clusters/a/join-tokens")).json == {"items": []}
    world.ca = front
    made = await world.call("POST", "/v1/clusters/a/manifest", {})
    assert made.status == 201
    text = front.decode().strip()
    assert text in made.json["shell"]
    (settings,) = yaml.safe_load_all(made.json["values"])
    assert (settings["hub"]["ca"].strip(), settings["hub"]["caPins"]) == (text, world.joining_pins)
    maps = [each for each in yaml.safe_load_all(made.json["manifest"]) if each["kind"] == "ConfigMap"]
    assert text in [value.strip() for each in maps for value in each.get("data", {}).values()]


async def test_a_token_that_is_none_or_over_fetches_nothing(world: HubWorld) -> None:
    await pinned(world)
    await world.call("POST", "/v1/clusters", {"name": "a"})
    made = (await world.call("POST", "/v1/clusters/a/join-tokens", {})).json
    token = made["token"]
    assert (await world.call("GET", "/v1/manifest", token=token)).status == 200
    for other in (world.admin, "", token[:-1] + "g", token[:-1] + ("0" if token[-1] != "0" else "1")):
        assert (await world.call("GET", "/v1/manifest", token=other)).status == 401
    assert (await world.call("GET", "/v1/clusters", token=token)).status == 401
    world.clock.now += 901
    late = await world.call("GET", "/v1/manifest", token=token)
    assert (late.status, "expired at" in late.json["message"]) == (401, True)
