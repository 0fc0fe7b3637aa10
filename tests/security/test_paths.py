"""Paths on raw sockets (facts/security.md §2.C)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.records import captured
from tests.security import rig

CLOSE = b"Connection: close\r\n"

REFUSED = [
    ("C1", b"/k8s/clusters/c1/../c2/api/v1/secrets"),
    ("C1", b"/k8s/clusters/./c1/api"),
    ("C1", b"/k8s/clusters/../clusters/c1/api"),
    ("C1", b"/k8s/clusters/c1/api/.."),
    ("C1", b"/k8s/clusters/c1/./api"),
    ("C2", b"/k8s/clusters/c1/%2e%2e/c2"),
    ("C2", b"/k8s/clusters/c1/%2E./c2"),
    ("C2", b"/k8s/clusters/c1/.%2e/c2"),
    ("C2", b"/k8s/clusters/c1/a%2f..%2fb"),
    ("C3", b"/k8s/clusters/c1%2fb/api"),
    ("C3", b"/k8s/clusters/c1%5cb/api"),
    ("C3", b"/k8s/clusters/c1\\b/api"),
    ("C3", b"/k8s/clusters/c1;b/api"),
    ("C3", b"/k8s/clusters/c1%3bb/api"),
    ("C4", b"/k8s/clusters/c1//api"),
    ("C4", b"/k8s/clusters//c1/api"),
    ("C5", b"/k8s/clusters/c1%00/api"),
    ("C5", b"/k8s/clusters/c1%0d%0a/api"),
    ("C5", b"/k8s/clusters/c1%0a/api"),
    ("C6", b"/k8s/clusters/C1/api"),
    ("C6", b"/k8s/clusters/c1./api"),
    ("C6", b"/k8s/clusters/%631/api"),
    ("C6", b"/k8s/clusters/\xd1\x811/api"),
]


@pytest.mark.parametrize(("row", "path"), REFUSED, ids=range(len(REFUSED)))
async def test_refused(row: str, path: bytes) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        assert rig.statuses_of(await line.ask(rig.get(path))) == [400]
        assert agent.seen == []
        assert line.authorizer.asked == []


@pytest.mark.parametrize("path", [b"/k8s/clusters/c10/api", b"/k8s/clusters/c/api", b"/k8s/clusters/c1-/api"])
async def test_names_match_exactly(path: bytes) -> None:
    """C6: a prefix or an extension of a name is another cluster, and answers as an unknown one does."""
    async with rig.line() as line:
        agent = await line.add_agent()
        assert rig.statuses_of(await line.ask(rig.get(path))) == [403]
        assert agent.seen == []


FORWARDED = [
    (b"/k8s/clusters/c1/%252e%252e/x", b"/%252e%252e/x"),
    (b"/k8s/clusters/c1/a%0d%0ab%00", b"/a%0d%0ab%00"),
    (b"/k8s/clusters/c1/a?x=%0a%2F..", b"/a?x=%0a%2F.."),
    (b"/k8s/clusters/c1", b"/"),
    (b"/k8s/clusters/c1/", b"/"),
    (b"/k8s/clusters/c1?x=1", b"/?x=1"),
    (b"/k8s/clusters/c1/api/v1/services/https:svc:443/proxy/a//b;c", b"/api/v1/services/https:svc:443/proxy/a//b;c"),
    (b"/k8s/clusters/c1/api/v1/nodes/x/proxy/metrics", b"/api/v1/nodes/x/proxy/metrics"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "rest"), FORWARDED, ids=range(len(FORWARDED)))
async def test_forwarded_byte_for_byte_and_logged_on_one_line(path: bytes, rest: bytes) -> None:
    with captured() as lines:
        async with rig.line() as line:
            agent = await line.add_agent()
            assert rig.statuses_of(await line.ask(rig.get(path, CLOSE))) == [200]
            assert agent.seen[0].request.path == rest
    logged = [entry for entry in lines if entry["event"] == "request"]
    assert len(logged) == 1
    assert "\n" not in logged[0]["path"]
    assert "\r" not in logged[0]["path"]


async def test_proxied_requests_are_classified() -> None:
    """C9: for the hub's policies; roles that only read do not exist yet."""
    with captured() as lines:
        async with rig.line() as line:
            await line.add_agent()
            await line.ask(rig.get(b"/k8s/clusters/c1/api/v1/nodes/x/proxy/run", CLOSE))
    assert [entry["verb"] for entry in lines if entry["event"] == "request"] == ["proxy"]


@pytest.mark.parametrize("path", [b"//k8s/clusters/c1/api", b"//evil.com/x", b"/k8s", b"/K8S/clusters/c1", b"/k8s/x"])
async def test_elsewhere_is_nowhere(path: bytes) -> None:
    """C4: no redirect, least of all to another host."""
    async with rig.line() as line:
        agent = await line.add_agent()
        raw = await line.ask(rig.get(path, CLOSE))
        assert rig.statuses_of(raw) == [404]
        assert b"location" not in raw.lower()
        assert agent.seen == []


PIECES = st.sampled_from([b"/", b"//", b"..", b"%2e", b"%2f", b"a", b"c1", b"c2", b"?", b";", b"%00", b"\\", b"%5c"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=8).map(b"".join))
async def test_what_is_authorised_is_what_is_dialled(tail: bytes) -> None:
    """C8: cluster(authorised) == cluster(dialled), forwarded path == suffix of the raw target."""
    async with rig.line() as line:
        agents = {"c1": await line.add_agent("c1"), "c2": await line.add_agent("c2")}
        target = b"/k8s/clusters/" + tail
        raw = await line.ask(rig.get(target, CLOSE, auth=rig.BOSS_AUTH))
        seen = {name: agent.seen for name, agent in agents.items() if agent.seen}
        if rig.status_of(raw) != 200:
            assert not seen
            return
        assert [name for _, name in line.authorizer.asked] == list(seen)
        (name,) = seen
        suffix = target.removeprefix(b"/k8s/clusters/" + name.encode())
        assert seen[name][0].request.path == (suffix if suffix.startswith(b"/") else b"/" + suffix)
