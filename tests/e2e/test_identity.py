"""Who somebody is downstream, whom the hub lets in, and what happens when it stops doing so."""

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest

from tests.e2e.entry import Entry
from tests.e2e.hubapi import Made
from tests.e2e.line import GROUP, USER, Line
from tests.e2e.waiting import until
from tests.room import room

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


async def whoami(entry: Entry, *arguments: str) -> dict[str, object]:
    """What the API server thinks of us."""
    answer = await entry.kubectl("auth", "whoami", "-o", "json", *arguments)
    found: dict[str, object] = json.loads(answer.stdout)["status"]["userInfo"]
    return found


async def someone(line: Line, user: str, *, role: str = "", **more: object) -> tuple[Entry, Made]:
    """A user with a token, and a grant of `role` on the light cluster if given."""
    made = await line.api.mint(f"test of {user}", user=user)
    if role:
        await line.api.grant(f"test.{user}", user=user, cluster=line.light.name, role=role, **more)  # type: ignore[arg-type]
    return line.entry(line.light.name, made.token), made


async def ended(watch: aiohttp.ClientResponse) -> None:
    """Read a watch to its end, clean (between two events, P11) or not."""
    with contextlib.suppress(aiohttp.ClientError):
        async with asyncio.timeout(30):
            while await watch.content.read(65536):
                pass


async def test_an_admin_arrives_with_prefix_and_the_hubs_group(hub_line: Line, light: Entry) -> None:
    info = await whoami(light)
    assert info["username"] == f"riata:{USER}"
    assert info["groups"] == [f"riata:{GROUP}", "riata:hub:cluster-admins", "system:authenticated"]
    assert list(info["extra"]) == ["riata.io/request-id"]  # type: ignore[call-overload]
    assert (await light.kubectl("auth", "can-i", "delete", "nodes")).stdout.strip() == "yes"


async def test_use_leaves_every_right_to_the_clusters_own_rbac(hub_line: Line, light: Entry) -> None:
    entry, _ = await someone(hub_line, "una", role="use")
    info = await whoami(entry)
    assert (info["username"], info["groups"]) == ("riata:una", ["system:authenticated"])
    namespace = light.kubectl.namespace
    refused = await entry.kubectl("get", "configmaps", "-n", namespace, rc=1)
    assert 'User "riata:una" cannot list resource "configmaps"' in refused.stderr
    await light.kubectl("create", "rolebinding", "una", "--clusterrole=view", "--user=riata:una")

    async def allowed() -> bool:
        return (await entry.kubectl("get", "configmaps", "-n", namespace, rc=None)).rc == 0

    await until(allowed, what="the cluster's own RBAC to apply")


async def test_a_grant_to_a_group_serves_its_members(hub_line: Line) -> None:
    member = await hub_line.api.mint("member", user="mia", groups=["operators"])
    await hub_line.api.grant("test.operators", group="operators", cluster=hub_line.light.name, role="use")
    info = await whoami(hub_line.entry(hub_line.light.name, member.token))
    assert info["groups"] == ["riata:operators", "system:authenticated"]


async def test_a_tokens_scope_narrows_its_users_grants(hub_line: Line) -> None:
    await hub_line.api.must("POST", "/v1/clusters", {"name": "elsewhere", "labels": {}})
    made = await hub_line.api.mint("narrow", user=USER, clusters=["elsewhere"])
    status, body = await _get(hub_line.entry(hub_line.light.name, made.token), "/api")
    assert (status, json.loads(body)["reason"]) == (403, "Forbidden")


async def test_no_grant_and_no_cluster_look_alike(hub_line: Line) -> None:
    made = await hub_line.api.mint("stranger", user="stan")
    answers = []
    for name in (hub_line.light.name, "never-was"):
        entry = hub_line.entry(name, made.token)
        async with entry.session() as session, session.get(entry.at("/api/v1/pods")) as answer:
            fields = {key.lower(): value for key, value in answer.headers.items()}
            for changing in ("date", "riata-request-id"):
                fields.pop(changing, None)
            answers.append((answer.status, fields, await answer.read()))
    assert answers[0] == answers[1]
    assert answers[0][0] == 403
    refused = await hub_line.entry("never-was", made.token).kubectl("get", "pods", rc=1)
    assert "Forbidden" in refused.stderr or "forbidden" in refused.stderr


async def test_as_needs_its_grant(hub_line: Line, light: Entry) -> None:
    refused = await light.kubectl("get", "configmaps", "--as=bob", rc=1)
    assert "impersonation is not granted" in refused.stderr


async def test_as_serves_exactly_whom_the_grant_names(hub_line: Line) -> None:
    whom = {"users": ["bob"], "groups": ["support"]}
    entry, _ = await someone(hub_line, "ines", role="admin", impersonate=whom)
    info = await whoami(entry, "--as=bob", "--as-group=support")
    assert info["username"] == "riata:bob"
    # Nothing of the caller's own rights comes along: not even the hub's group.
    assert info["groups"] == ["riata:support", "system:authenticated"]
    for arguments in (("--as=carol",), ("--as=bob", "--as-group=others"), ("--as=system:admin",), ("--as-uid=7",)):
        assert (await entry.kubectl("get", "configmaps", *arguments, rc=1)).stderr, arguments
    assert (await whoami(entry))["username"] == "riata:ines"


async def test_a_revoked_token_ends_its_live_watch_and_every_next_call(hub_line: Line, light: Entry) -> None:
    entry, made = await someone(hub_line, "rita", role="admin")
    namespace = light.kubectl.namespace
    url = entry.at(f"/api/v1/namespaces/{namespace}/configmaps?watch=1")
    async with entry.session() as session, session.get(url) as watch:
        assert watch.status == 200
        await hub_line.api.must("DELETE", f"/v1/tokens/{made.id}")
        revoked = time.monotonic()
        await ended(watch)
        took = time.monotonic() - revoked
        print(f"\nlive watch ended {took * 1e3:.0f} ms after the revocation")
        assert took < 1.0 * room()
        status, body = await _get(entry, "/api")
        assert (status, json.loads(body)["reason"]) == (401, "Unauthorized")
    said = await entry.kubectl("get", "configmaps", rc=1)
    assert "You must be logged in to the server" in said.stderr


async def test_a_lost_grant_ends_the_live_watch(hub_line: Line, light: Entry) -> None:
    entry, _ = await someone(hub_line, "gwen", role="admin")
    async with entry.session() as session:
        watch = await session.get(entry.at(f"/api/v1/namespaces/{light.kubectl.namespace}/configmaps?watch=1"))
        assert watch.status == 200
        await hub_line.api.must("DELETE", "/v1/grants/test.gwen")
        await ended(watch)
    assert (await _get(entry, "/api"))[0] == 403


async def test_a_token_ends_at_its_expiry(hub_line: Line) -> None:
    made = await hub_line.api.mint("short", user=USER, seconds=1)
    entry = hub_line.entry(hub_line.light.name, made.token)
    await asyncio.sleep(2.1)  # whole seconds
    assert (await _get(entry, "/api"))[0] == 401


@pytest.mark.parametrize("token", ["", "riata_aaaaaaaaaa_" + "0" * 64, "system:admin", "eyJhbGciOiJub25lIn0.e30."])
async def test_no_other_token_opens_the_hub(hub_line: Line, token: str) -> None:
    entry = hub_line.entry(hub_line.light.name, token or " ")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with entry.session(headers=headers) as session, session.get(entry.at("/api")) as answer:
        assert answer.status == 401
        assert (await answer.json())["kind"] == "Status"


async def _get(entry: Entry, path: str) -> tuple[int, bytes]:
    async with entry.session() as session, session.get(entry.at(path)) as answer:
        return answer.status, await answer.read()
