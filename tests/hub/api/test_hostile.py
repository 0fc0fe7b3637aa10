"""Every route that changes something, with everything that is no request for it: a 4xx as Status that names what is
wrong, and a store that is as it was (issue 5: bad input at every door leaves no half-created cluster)."""

from __future__ import annotations

import json

import pytest

from hub.api.routes import Route
from hub.api.server import ROUTES
from tests.hub.api.hubworld import HubWorld

CHANGING = [route for route in ROUTES if route.method != "GET" and route.handler is not None]
TEXTS = (
    "", " ", "..", "../../etc/passwd", "a/b", "-a", "A", "é", "\x00", "a\nb", "a b", "$(id)", "`id`",
    "'; DROP TABLE x;--", "{{ .Values }}", "a: b", "<script>", "\u202e", "x" * 300, "%s%n", "\ud800",
)  # fmt: skip
VALUES = (*TEXTS, None, True, -1, 0, 1e308, [], {}, ["x"], {"a": "b"})
PLACES = {"cluster": "victim", "id": "x", "name": "x"}


def path_of(route: Route, **parts: str) -> str:
    path = route.path
    for name in [part.strip("{}") for part in path.split("/") if part.startswith("{")]:
        path = path.replace(f"{{{name}}}", parts.get(name, PLACES.get(name, "x")))
    return path


async def refused(world: HubWorld, method: str, path: str, body: object, raw: bytes | None = None) -> str:
    """What the answer says, which has to be a 4xx as Status."""
    content = json.dumps(body).encode() if raw is None else raw
    head = f"{method} {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {world.admin}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    answer = await world.raw(head.encode() + content)
    assert 400 <= answer.status < 500, (method, path, content[:80], answer.status)
    assert answer.json["kind"] == "Status", (method, path)
    assert answer.json["message"]
    return str(answer.json["message"])


async def revision(world: HubWorld) -> int:
    return (await world.services.clusters._store.list("cluster")).revision


@pytest.mark.parametrize("route", [route for route in CHANGING if route.request], ids=lambda route: route.name)
async def test_no_body_that_is_none_changes_anything(world: HubWorld, route: Route) -> None:
    await world.call("POST", "/v1/clusters", {"name": "victim"})
    before, path = await revision(world), path_of(route)
    for raw in (b"", b"{", b"[]", b"null", b'"x"', b"{}{}", b"\xff\xfe", b'{"a":' * 2000, b'{"name":"a","name":1}x'):
        is_optional = raw == b"" and route.method == "POST"
        if not is_optional:
            await refused(world, route.method, path, None, raw)
    assert "surprise" in await refused(world, route.method, path, {"surprise": 1})
    assert await revision(world) == before


@pytest.mark.parametrize("route", [route for route in CHANGING if route.request], ids=lambda route: route.name)
async def test_a_bad_field_is_named_and_nothing_is_made(world: HubWorld, route: Route) -> None:
    """Each field in turn gets each value; what a field takes may change something, what it refuses may not."""
    await world.call("POST", "/v1/clusters", {"name": "victim"})
    assert route.request is not None
    fields = [field.alias or name for name, field in route.request.model_fields.items()]
    for field in fields:
        refusals = 0
        for value in VALUES:
            before = await revision(world)
            try:
                content = json.dumps({field: value}).encode("utf-8", "surrogatepass")
            except ValueError:
                continue
            head = f"{route.method} {path_of(route)} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {world.admin}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            answer = await world.raw(head.encode() + content)
            assert answer.status < 500, (field, value)
            if answer.status >= 400:
                refusals += 1
                assert answer.json["kind"] == "Status"
                assert await revision(world) == before, (field, value)
        assert refusals, field


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.name)
@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "a%2Fb", "%00", "%C3%A9", "x" * 3000, "%0d%0aX:%20y", "%24(id)", "%ff"]
)
async def test_strange_names_in_paths_change_nothing(world: HubWorld, route: Route, name: str) -> None:
    if "{" not in route.path:
        return
    before = await revision(world)
    path = path_of(route, **dict.fromkeys(PLACES, name))
    await refused(world, route.method, path, {}, None if route.request else b"")
    assert await revision(world) == before
