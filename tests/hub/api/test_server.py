"""What every request meets: authentication, limits, error answers, one answer a connection."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from hub import errors
from hub.api import server
from hub.api.server import ROUTES
from hub.store.model import Resource
from hub.store.sqlite import SqliteStore
from proto import logs
from tests.harness.records import captured
from tests.hub.api.hubworld import HubWorld, hub_world


async def test_health_version_and_ca_need_no_token(world: HubWorld) -> None:
    assert (await world.call("GET", "/livez", token="")).body == b"ok\n"
    assert (await world.call("GET", "/readyz", token="")).body == b"ok\n"
    assert (await world.call("GET", "/version", token="")).json["hubId"] == "h1"
    ca = await world.call("GET", "/v1/ca", token="")
    assert (ca.status, ca.body, ca.headers["content-type"]) == (200, b"PEM", "application/x-pem-file")
    world.ca = b""
    assert (await world.call("GET", "/v1/ca", token="")).status == 404


async def test_a_user_has_a_bound_of_requests_under_way(world: HubWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list of thousands of clusters is megabytes: one user with a few thousand would take the hub's memory."""
    monkeypatch.setattr(server, "UNDER_WAY_MAX", 2)
    goes_on, asked = asyncio.Event(), asyncio.Event()

    async def refresh(_cluster_uid: str = "", *, within_s: float = 0.0) -> None:
        if world.services.under_way.total() == 2:
            asked.set()
        await goes_on.wait()

    monkeypatch.setattr(world.tunnels, "refresh", refresh)
    other = await world.mint("jane")
    limited = await world.mint("admin", scope=("none",))
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(world.call("GET", "/v1/clusters")) for _ in range(2)]
        await asyncio.wait_for(asked.wait(), 10)
        refused = await world.call("GET", "/v1/whoami")
        assert (refused.status, refused.json["reason"]) == (429, "TooManyRequests")
        assert "retry-after" in refused.headers
        assert (await world.call("GET", "/v1/whoami", token=other)).status == 200
        assert (await world.call("GET", "/v1/whoami", token=limited)).status == 200  # stolen, it would hold up its user
        assert (await world.call("DELETE", "/v1/tokens/none")).status == 404  # what is revoked is always
        assert (await world.call("GET", "/livez", token="")).status == 200
        goes_on.set()
    assert [task.result().status for task in held] == [200, 200]
    assert (await world.call("GET", "/v1/whoami")).status == 200
    assert not world.services.under_way


async def test_not_ready_names_the_checks(world: HubWorld) -> None:
    world.failing = ["draining"]
    answer = await world.call("GET", "/readyz", token="")
    assert (answer.status, answer.body) == (503, b"failed: draining\n")
    assert (await world.call("GET", "/livez", token="")).status == 200


@pytest.mark.parametrize("probe", ["/livez", "/readyz"])
async def test_load_balancers_ask_in_their_own_ways(world: HubWorld, probe: str) -> None:
    """HAProxy in HTTP/1.0 and without a Host, monitors by HEAD."""
    old = await world.raw(f"GET {probe} HTTP/1.0\r\n\r\n".encode())
    assert (old.status, old.body) == (200, b"ok\n")
    head = await world.call("HEAD", probe, token="")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "3")
    world.failing = ["draining"]
    assert (await world.call("HEAD", "/readyz", token="")).status == 503
    other = await world.call("POST", probe, token="")
    assert (other.status, other.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.who.name != "ANYBODY"], ids=lambda route: route.name
)
async def test_every_other_route_needs_a_token(world: HubWorld, route) -> None:  # type: ignore[no-untyped-def]
    path = route.path.replace("{cluster}", "a").replace("{id}", "b").replace("{grant}", "c")
    answer = await world.call(route.method, path, token="")
    assert answer.status == 401
    assert answer.json["reason"] == "Unauthorized"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic x", "Bearer x", "Bearer riata_aaaaaaaaaa_" + "0" * 64, "riata_x", "Bearer a, b"],
)
async def test_bad_credentials_are_told_apart_by_nothing(world: HubWorld, value: str) -> None:
    answer = await world.call("GET", "/v1/whoami", token="", Authorization=value)
    reference = await world.call("GET", "/v1/whoami", token="")
    assert answer.status == 401
    assert answer.body == reference.body


async def test_two_credentials_are_none(world: HubWorld) -> None:
    line = f"Authorization: Bearer {world.admin}\r\n"
    answer = await world.raw(f"GET /v1/whoami HTTP/1.1\r\nHost: h\r\n{line}{line}\r\n".encode())
    assert answer.status == 401


async def test_an_agents_token_is_no_users_token(world: HubWorld) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    made = await world.call("POST", "/v1/clusters/a/agent-tokens", {"name": "x"})
    assert (await world.call("GET", "/v1/whoami", token=made.json["token"])).status == 401


async def test_answers_close_the_connection_and_are_not_cached(world: HubWorld) -> None:
    for answer in (await world.call("GET", "/v1/whoami"), await world.call("GET", "/nothing", token="")):
        assert answer.headers["connection"] == "close"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["server"] == "riata"
        assert len(answer.headers["riata-request-id"]) == 16


async def test_unknown_paths_and_methods(world: HubWorld) -> None:
    assert (await world.call("GET", "/nothing")).json["reason"] == "NotFound"
    answer = await world.call("PATCH", "/v1/clusters/a")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET")
    assert answer.json["reason"] == "MethodNotAllowed"


async def test_only_plain_json_is_taken(world: HubWorld) -> None:
    head = f"POST /v1/clusters HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {world.admin}\r\nContent-Length: 12\r\n"
    for extra in ("", "Content-Type: text/plain\r\n", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"):
        assert (await world.raw(f'{head}{extra}\r\n{{"name":"a"}}'.encode())).status == 400
    broken = await world.raw(f'{head}Content-Type: application/json\r\n\r\n{{"name":"a"]'.encode())
    assert (broken.status, broken.json["message"]) == (400, "the body is no JSON")


async def test_deep_nesting_is_refused(world: HubWorld) -> None:
    body = b'{"name":"a","labels":' + b"[" * 100_000 + b"}"
    head = f"POST /v1/clusters HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {world.admin}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    assert (await world.raw(head.encode() + body)).status == 400


async def test_what_was_sent_is_not_repeated(world: HubWorld) -> None:
    answer = await world.call("POST", "/v1/clusters", {"name": "CANARY-1", "labels": {"x": ["CANARY-2"]}})
    assert answer.status == 422
    assert b"CANARY" not in answer.body
    secret = "riata_abcdefghij_" + "a" * 64
    answer = await world.call("POST", "/v1/clusters", {"name": "a", secret: 1, "x" * 10_000: 1})
    assert answer.status == 422
    assert secret.encode() not in answer.body
    assert len(answer.body) < 2_000


async def test_a_body_of_nothing_but_mistakes_is_not_explained(
    world: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be an object: a hundred megabytes for one of a megabyte, and a quarter of a second of the loop."""
    monkeypatch.setattr(server, "_field", lambda part: pytest.fail("explained"))
    answer = await world.call("POST", "/v1/clusters", {f"x{number}": 0 for number in range(101)})
    assert (answer.status, answer.json["message"]) == (422, "more than 100 things are wrong with the body")


async def test_big_bodies_are_refused(tmp_path: Path) -> None:
    async with hub_world(tmp_path, body_bytes_max=2048) as world:
        answer = await world.call("POST", "/v1/clusters", {"name": "a", "labels": {"x": "y" * 4096}})
        assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_body_that_never_comes_is_given_up(tmp_path: Path) -> None:
    async with hub_world(tmp_path, request_timeout_s=0.05) as world:
        head = f"POST /v1/clusters HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {world.admin}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        answer = await world.raw(head.encode() + b"{")
        assert answer.status in {408, 504}
        assert answer.headers["connection"] == "close"


async def test_a_handler_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hub_world(tmp_path, request_timeout_s=0.05) as world:

        async def hang(_revision: int) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(world.follower, "reached", hang)
        answer = await world.call("POST", "/v1/clusters", {"name": "a"})
        assert (answer.status, answer.json["reason"]) == (504, "Timeout")
        assert "retry-after" not in answer.headers


def slow_disk(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """From now on whoever writes hears of it when this is set; it is written all the same."""
    disk, stored = asyncio.Event(), SqliteStore.put

    async def slow(store: SqliteStore, resource: Resource, *, lease: int = 0) -> Resource:
        made = await stored(store, resource, lease=lease)
        await disk.wait()
        return made

    monkeypatch.setattr(SqliteStore, "put", slow)
    return disk


async def test_what_has_begun_to_change_something_is_audited_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow: the cluster is there, and the answer said that this is unknown."""
    async with hub_world(tmp_path, request_timeout_s=0.05) as world:
        disk = slow_disk(monkeypatch)
        with captured("riata.audit") as logged:
            assert (await world.call("POST", "/v1/clusters", {"name": "a"})).status == 504
            disk.set()
            await asyncio.wait_for(world.services.changes.wait(), 10)
        assert [(event["event"], event["cluster"], event["user"]) for event in logged] == [
            ("cluster-made", "a", "admin")
        ]


async def test_a_hub_that_stops_audits_what_it_has_begun_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with captured("riata.audit") as logged:
        async with hub_world(tmp_path, request_timeout_s=0.05) as world:
            disk = slow_disk(monkeypatch)
            assert (await world.call("POST", "/v1/clusters", {"name": "a"})).status == 504
            asyncio.get_running_loop().call_later(0.05, disk.set)
        assert [event["event"] for event in logged] == ["cluster-made"]


async def test_changes_that_go_on_behind_their_time_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_revision: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(server, "UNFINISHED_MAX", 2)
    async with hub_world(tmp_path, request_timeout_s=0.5) as world:
        monkeypatch.setattr(world.follower, "reached", hang)
        answers = [await world.call("POST", "/v1/clusters", {"name": name}) for name in "abc"]
        assert [answer.status for answer in answers] == [504, 504, 503]
        assert "wait for the hub's disk" in answers[2].json["message"]
        assert (await world.call("GET", "/v1/clusters")).status == 200


async def test_continue_is_only_said_to_those_who_may(world: HubWorld) -> None:
    body = {"name": "a"}
    allowed = await world.call("POST", "/v1/clusters", body, Expect="100-continue")
    assert (allowed.interim, allowed.status) == (b"HTTP/1.1 100 Continue", 201)
    for token, status in (("", 401), (await world.mint("jane"), 403)):
        refused = await world.call("POST", "/v1/clusters", body, token=token, Expect="100-continue")
        assert (refused.interim, refused.status) == (b"", status)
    assert (await world.call("POST", "/v1/clusters", body, Expect="magic")).status == 417


async def test_a_broken_store_is_503_and_unknown_errors_are_500_with_an_id(
    world: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(*_args: object, **_more: object) -> None:
        raise RuntimeError("CANARY")

    monkeypatch.setattr(world.services.clusters, "create", explode)
    answer = await world.call("POST", "/v1/clusters", {"name": "a"})
    assert answer.status == 500
    assert answer.headers["riata-request-id"] in answer.json["message"]
    assert b"CANARY" not in answer.body
    await world.store.close()
    monkeypatch.undo()
    answer = await world.call("POST", "/v1/clusters", {"name": "a"})
    assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(component="hub", log_format="json", level="info", stream=stream)
    return stream


async def test_one_access_line_a_request_without_secrets(log: io.StringIO, world: HubWorld) -> None:
    await world.call("GET", "/v1/whoami?token=SECRETSECRET")
    made = (await world.call("POST", "/v1/tokens", {"name": "x", "expiresInSeconds": 60})).json
    await world.call("GET", "/v1/whoami", token=f"riata_{'a' * 10}_{'b' * 64}")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    access = [line for line in lines if line["logger"] == "riata.access"]
    assert [(line["method"], line["path"], line["status"]) for line in access] == [
        ("GET", "/v1/whoami", 200), ("POST", "/v1/tokens", 201), ("GET", "/v1/whoami", 401),
    ]  # fmt: skip
    assert access[0]["user"] == "admin"
    assert access[0]["token_id"] == world.admin.split("_")[1]
    for secret in ("SECRETSECRET", made["token"], world.admin, "b" * 64):
        assert secret not in log.getvalue()


def access_lines(log: io.StringIO) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["logger"] == "riata.access"]


def errors_in(log: io.StringIO) -> list[str]:
    return [line for line in log.getvalue().splitlines() if json.loads(line)["level"] == "error"]


async def test_who_expects_to_be_asked_for_a_body_and_is_not_has_a_line_too(log: io.StringIO, world: HubWorld) -> None:
    jane = await world.mint("jane")
    answers = [
        await world.call("POST", "/v1/clusters", {"name": "a"}, token="", Expect="100-continue"),
        await world.call("POST", "/v1/clusters", {"name": "a"}, token=jane, Expect="100-continue"),
        await world.call("GET", "/v1/whoami", token="", Expect="100-continue"),
    ]
    lines = access_lines(log)
    assert [(line["path"], line["status"], line["user"]) for line in lines] == [
        ("/v1/clusters", 401, ""), ("/v1/clusters", 403, "jane"), ("/v1/whoami", 401, ""),
    ]  # fmt: skip
    assert [line["request_id"] for line in lines] == [answer.headers["riata-request-id"] for answer in answers]


async def test_who_lacks_the_right_is_counted(world: HubWorld) -> None:
    await world.call("GET", "/v1/whoami", token=f"riata_{'a' * 10}_{'b' * 64}")
    await world.call("POST", "/v1/clusters", {"name": "a"}, token=await world.mint("jane"), Expect="100-continue")
    await world.call("GET", "/v1/whoami")
    await world.call("GET", "/nothing")
    assert world.refusals == ["unauthenticated", "forbidden"]


async def test_who_leaves_before_the_answer_is_named_by_its_line(
    log: io.StringIO, world: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_left = asyncio.Event()

    async def create(*_args: object, **_more: object) -> None:
        await has_left.wait()
        raise errors.Conflict

    async def leave() -> None:
        world.transport.close()
        await asyncio.sleep(0)
        has_left.set()

    monkeypatch.setattr(world.services.clusters, "create", create)
    head = f"POST /v1/clusters HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {world.admin}\r\nContent-Length: 12\r\n"
    request = f'{head}Content-Type: application/json\r\n\r\n{{"name":"a"}}'
    assert (await world.raw(request.encode(), meanwhile=leave)).status == 0
    for _ in range(20):  # until the handler has heard of it
        await asyncio.sleep(0)
    assert [(line["status"], line["peer"]) for line in access_lines(log)] == [(409, "192.0.2.1:4000")]
    assert errors_in(log) == []


async def test_who_leaves_in_the_middle_of_a_body_is_no_failure_of_the_hub(log: io.StringIO, world: HubWorld) -> None:
    async def leave() -> None:
        world.transport.close()
        await asyncio.sleep(0)

    head = f"POST /v1/clusters HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {world.admin}\r\nContent-Length: 12\r\n"
    request = f"{head}Content-Type: application/json\r\n\r\n{{"
    assert (await world.raw(request.encode(), meanwhile=leave)).status == 0
    for _ in range(20):  # until the handler has heard of it
        await asyncio.sleep(0)
    assert [(line["status"], line["user"]) for line in access_lines(log)] == [(400, "admin")]
    assert errors_in(log) == []


@pytest.mark.parametrize("prefix", ["riata", "riataagent", "riatajoin"])
async def test_a_token_in_a_path_is_repeated_by_neither_the_answer_nor_the_log(
    log: io.StringIO, world: HubWorld, prefix: str
) -> None:
    secret = "f" * 64
    answer = await world.call("DELETE", f"/v1/tokens/{prefix}_abcdefghij_{secret}")
    assert (answer.status, answer.json["details"]["name"]) == (404, f"{prefix}_abcdefghij_[redacted]")
    assert f"/v1/tokens/{prefix}_abcdefghij_[redacted]" in log.getvalue()
    assert secret not in log.getvalue()


async def test_secrets_are_not_in_the_database(world: HubWorld, tmp_path: Path) -> None:
    made = (await world.call("POST", "/v1/tokens", {"name": "x", "expiresInSeconds": 60})).json["token"]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.split("_")[1].encode() in content
    assert made.split("_")[2].encode() not in content


@pytest.mark.parametrize("name", ["%2e%2e", "a%2Fb", "%00", "%C3%A9", "x" * 5000, "%0d%0aX:%20y"])
async def test_strange_names_in_paths_are_just_not_found(world: HubWorld, name: str) -> None:
    await world.call("POST", "/v1/clusters", {"name": "a"})
    for path in (
        f"/v1/tokens/{name}",
        f"/v1/grants/{name}",
        f"/v1/clusters/{name}",
        f"/v1/clusters/a/agent-tokens/{name}",
    ):
        answer = await world.call("DELETE", path)
        assert answer.status in {400, 404}, path
