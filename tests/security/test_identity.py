"""Identity headers on raw sockets (facts/security.md §2.A)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security import rig

PATH = b"/k8s/clusters/c1/api"

INJECTED = [
    (b"impersonate-user", b"riata:alice"),
    (b"impersonate-group", b"riata:dev"),
]

WITHOUT_GRANT = [
    (b"Impersonate-User: admin\r\n", 403),
    (b"IMPERSONATE-USER: admin\r\n", 403),
    (b"impersonate-uSER: admin\r\n", 403),
    (b"Impersonate_User: root\r\n", 400),
    (b"Impersonate-User : root\r\n", 400),
    (b"Impersonate-User: a\r\nimpersonate-user: b\r\n", 400),
    (b"Impersonate-User: a\r\nImpersonate-USER: a\r\nimpersonate-user: a\r\n", 400),
    (b"Impersonate-Extra-: x\r\n", 400),
    (b"Impersonate-Extra-a%2fb: x\r\n", 400),
    (b"Impersonate-Extra-%00: x\r\n", 400),
    (b"".join(b"Impersonate-Extra-k%d: x\r\n" % i for i in range(200)), 400),
    (b"".join(b"Impersonate-Extra-k%d: x\r\n" % i for i in range(1000)), 431),
    (b"Impersonate-Uid: 0\r\n", 403),
    (b"impersonate-uid: 0\r\n", 403),
    (b"Impersonate-Group: system:masters\r\n", 403),
    (b"Impersonate-User: bob\r\nImpersonate-Group: system:masters\r\n", 403),
    (b"Impersonate-Foo: x\r\n", 403),
    (b"Connection: close, Impersonate-User, Impersonate-Group, Authorization, X-Request-Id\r\n", 400),
    (b"Connection: keep-alive\r\nConnection: Impersonate-User\r\n", 400),
    (b"Connection: keep-alive,\tImpersonate-User\r\n", 400),
]


@pytest.mark.parametrize(("lines", "expected"), WITHOUT_GRANT, ids=range(len(WITHOUT_GRANT)))
async def test_claims_without_grant_never_reach_a_cluster(lines: bytes, expected: int) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        raw = await line.ask(rig.get(PATH, lines) + rig.get())
        assert rig.statuses_of(raw) == [expected]
        assert agent.seen == []


WITH_GRANT = [
    (b"Impersonate-User: carol\r\n", 403),
    (b"Impersonate-User: bob\r\nImpersonate-Group: dev\r\n", 403),
    (b"Impersonate-User: system:serviceaccount:kube-system:x\r\n", 403),
    (b"Impersonate-User: system:node:n1\r\n", 403),
    (b"Impersonate-User: system:anonymous\r\n", 403),
    (b"Impersonate-User: hub:x\r\n", 403),
    (b"Impersonate-User:\r\n", 403),
    (b"Impersonate-User: " + b"x" * 300 + b"\r\n", 403),
    (b"Impersonate-User: b\x00b\r\n", 400),
    (b"Impersonate-User: b\xc3\xb6b\r\n", 403),
    (b"Impersonate-Group: ops\r\n", 400),
    (b"Impersonate-Extra-scopes: x\r\n", 403),
    (b"Impersonate-User: bob\r\nImpersonate-Uid: 1\r\n", 403),
    (b"Impersonate-User: bob\r\nImpersonate-Extra-riata-request-id: x\r\n", 403),
]


@pytest.mark.parametrize(("lines", "expected"), WITH_GRANT, ids=range(len(WITH_GRANT)))
async def test_a_grant_covers_whom_it_names_only(lines: bytes, expected: int) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        raw = await line.ask(rig.get(PATH, lines, auth=rig.BOSS_AUTH))
        assert rig.statuses_of(raw) == [expected]
        assert agent.seen == []


async def test_a_granted_impersonation_replaces_everything() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        lines = b"Impersonate-User: bob\r\nImpersonate-Group: ops\r\nConnection: close\r\n"
        assert rig.status_of(await line.ask(rig.get(PATH, lines, auth=rig.BOSS_AUTH))) == 200
        seen = agent.seen[0]
        assert seen.headers_named(b"impersonate-user") == [b"riata:bob"]
        assert seen.headers_named(b"impersonate-group") == [b"riata:ops"]


DROPPED = [
    b"X-Remote-User: root", b"X-Remote-Group: system:masters", b"X-Remote-Extra-Scopes: x", b"X-Remote-Uid: 0",
    b"X-Forwarded-User: root", b"X-Forwarded-Host: evil", b"X-Forwarded-Proto: ftp", b"X-Forwarded-For: 1.2.3.4",
    b"X-Auth-Request-User: root", b"X-Real-IP: 1.2.3.4", b"Forwarded: for=1.2.3.4;host=evil", b"Cookie: a=CANARY",
    b"Proxy-Authorization: Basic CANARY", b"X-API-Auth: CANARY", b"X-API-Tunnel-Token: CANARY", b"TE: trailers, x",
    b"Proxy-Connection: Impersonate-User", b"Trailer: Impersonate-User", b"Keep-Alive: timeout=5",
    b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.Q0FOQVJZ", b"X-Amz-Security-Token: CANARY",
    b"Riata-Request-Id: forged", b"X-Client-Cert: x",
]  # fmt: skip


@pytest.mark.parametrize("field", DROPPED, ids=lambda field: field.partition(b":")[0].decode())
async def test_what_identifies_is_never_forwarded(field: bytes) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        raw = await line.ask(rig.get(PATH, field + b"\r\nConnection: close\r\nAccept: a/b\r\n"))
        assert rig.status_of(raw) == 200
        names = [name for name, _ in agent.seen[0].request.headers]
        assert names == [
            b"accept",
            b"impersonate-user",
            b"impersonate-group",
            b"impersonate-extra-riata.io%2frequest-id",
        ]
        assert b"CANARY" not in b"".join(value for _, value in agent.seen[0].request.headers)


async def test_trailers_are_not_forwarded() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        body = b"3\r\nabc\r\n0\r\nImpersonate-User: root\r\n\r\n"
        head = b"POST /k8s/clusters/c1/api/v1/pods HTTP/1.1\r\n" + rig.HOST + rig.AUTH
        raw = await line.ask(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        assert rig.status_of(raw) == 200
        assert bytes(agent.seen[0].body) == b"abc"
        assert agent.seen[0].headers_named(b"impersonate-user") == [b"riata:alice"]
        assert agent.seen[0].headers_named(b"trailer") == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.sets(st.sampled_from(["Authorization", "Host", "X-Request-Id", "Cookie", "Riata-Request-Id", "Accept"]))
)
async def test_connection_cannot_take_the_identity_away(names: set[str]) -> None:
    """A8 as a property: whatever `Connection` lists, the hub's identity headers arrive complete."""
    async with rig.line() as line:
        agent = await line.add_agent()
        listed = ", ".join(["close", *sorted(names)]).encode()
        assert rig.status_of(await line.ask(rig.get(PATH, b"Connection: " + listed + b"\r\n"))) == 200
        identity = [pair for pair in agent.seen[0].request.headers if pair[0].startswith(b"impersonate-")]
        assert identity[:-1] == INJECTED
        assert identity[-1][0] == b"impersonate-extra-riata.io%2frequest-id"


UNAUTHENTICATED = [
    b"",
    b"Authorization: Bearer wrong\r\n",
    b"Authorization: Basic YWxpY2U6eA==\r\n",
    b"Authorization: Bearer " + rig.ALICE.encode() + b" " + rig.BOSS.encode() + b"\r\n",
    b"Authorization: " + rig.ALICE.encode() + b"\r\n",
    b"Cookie: token=" + rig.ALICE.encode() + b"\r\n",
    b"X-Forwarded-User: alice\r\n",
]


@pytest.mark.parametrize("auth", UNAUTHENTICATED, ids=range(len(UNAUTHENTICATED)))
async def test_without_a_valid_credential_the_authorizer_is_not_asked(auth: bytes) -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        raw = await line.ask(rig.get(PATH, auth=auth))
        assert rig.statuses_of(raw) == [401]
        assert b'"reason":"Unauthorized"' in raw
        assert line.authorizer.asked == []
        assert agent.seen == []


async def test_two_credentials_are_ambiguous() -> None:
    async with rig.line() as line:
        raw = await line.ask(rig.get(PATH, rig.BOSS_AUTH))
        assert rig.statuses_of(raw) == [400]


async def test_the_bearer_in_the_subprotocol_is_taken_out() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        token = base64.urlsafe_b64encode(rig.ALICE.encode()).rstrip(b"=")
        lines = (
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io." + token + b", v5.channel.k8s.io\r\n"
        )
        await line.ask(rig.get(PATH, lines, auth=b""))
        assert agent.seen[0].headers_named(b"sec-websocket-protocol") == [b"v5.channel.k8s.io"]
        assert agent.seen[0].headers_named(b"impersonate-user") == [b"riata:alice"]
        assert token not in b"".join(value for _, value in agent.seen[0].request.headers)


async def test_an_invisible_and_an_unknown_cluster_answer_alike() -> None:
    async with rig.line() as line:
        answers = []
        for cluster in (b"c2", b"nope"):
            raw = await line.ask(rig.get(b"/k8s/clusters/" + cluster + b"/api"))
            head, _, body = raw.partition(b"\r\n\r\n")
            lines = [field for field in head.split(b"\r\n") if not field.startswith(b"riata-request-id")]
            answers.append((lines, body))
        assert answers[0] == answers[1]
        assert answers[0][0][0] == b"HTTP/1.1 403 Forbidden"


async def test_a_cluster_never_decides_about_itself() -> None:
    """A15: alice uses c2, whose agent would allow anything; whether she may act as another is not asked of it."""
    async with rig.line() as line:
        agent = await line.add_agent("c2")
        line.authorizer.clusters.add("c2")
        assert rig.statuses_of(await line.ask(rig.get(b"/k8s/clusters/c2/api", b"Connection: close\r\n"))) == [200]
        agent.seen.clear()
        raw = await line.ask(rig.get(b"/k8s/clusters/c2/api", b"Impersonate-User: hub-admin\r\n"))
        assert rig.statuses_of(raw) == [403]
        assert agent.seen == []


async def test_bodies_are_relayed_not_inflated() -> None:
    """B16: Content-Encoding is the business of both ends."""
    async with rig.line() as line:
        agent = await line.add_agent()
        bomb = b"\x1f\x8b not even gzip"
        head = b"POST /k8s/clusters/c1/api HTTP/1.1\r\n" + rig.HOST + rig.AUTH + b"Content-Encoding: gzip\r\n"
        raw = await line.ask(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        assert rig.status_of(raw) == 200
        assert bytes(agent.seen[0].body) == bomb
        assert agent.seen[0].headers_named(b"content-encoding") == [b"gzip"]
