"""The OpenAPI document and the routes are the same thing."""

from __future__ import annotations

import re
from typing import Any

from hub.api import openapi
from hub.api.server import ROUTES
from hub.edge.application import TUNNEL_PATH
from hub.edge.framing import PROBES
from tests.hub.api.hubworld import HubWorld

DOCUMENT = openapi.document(ROUTES)


async def test_every_registered_route_is_described_and_no_other(world: HubWorld) -> None:
    assert world.runner.app is not None
    registered = {
        (route.method, route.resource.canonical) for route in world.runner.app.router.routes() if route.resource
    }
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    heads = {("HEAD", path.decode()) for path in PROBES}  # every server knows HEAD (RFC 9110 §9.1)
    assert registered | {("GET", TUNNEL_PATH)} == described | heads  # the edge serves the agents itself


async def test_the_document_is_served(world: HubWorld) -> None:
    answer = await world.call("GET", "/v1/openapi.json", token="")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == DOCUMENT


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if "$ref" in value else set()
        return found.union(*(references(item) for item in value.values()))
    return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()


def test_every_reference_has_its_schema() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert {f"#/components/schemas/{name}" for name in schemas} >= references(DOCUMENT)
    assert "expiresInSeconds" in schemas["TokenRequest"]["properties"]
    assert "createdAt" in schemas["Cluster"]["properties"]


def test_parameters_of_a_list_are_described() -> None:
    operation = DOCUMENT["paths"]["/v1/agents"]["get"]
    assert {each["name"]: each["in"] for each in operation["parameters"]} == {
        "cluster": "query", "limit": "query", "continue": "query",
    }  # fmt: skip
    assert "422" in operation["responses"]


def test_every_operation_is_named_once_and_complete() -> None:
    operations = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            assert operation["responses"]
            parameters = operation.get("parameters", [])
            in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            assert operation["security"] == [] or "401" in operation["responses"]
