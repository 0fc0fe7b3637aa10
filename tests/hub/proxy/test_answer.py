"""hub/proxy/answer.py: response heads from a cluster (facts/security.md E13)."""

from __future__ import annotations

import pytest

from hub.edge.framing import Request, read_request
from hub.edge.head import parse_head
from hub.proxy.answer import BadAnswer, Body, answer_head, last_chunk, switching_head
from proto.messages import HttpHead


def request(method: bytes = b"GET", version: bytes = b"1.1", lines: bytes = b"") -> Request:
    raw = b"%b / HTTP/%b\r\nHost: h\r\n%b\r\n" % (method, version, lines)
    return read_request(parse_head(raw), 0.0, "p")


def head(status: int, *fields: tuple[bytes, bytes]) -> HttpHead:
    return HttpHead(status=status, headers=fields)


def lines_of(data: bytes) -> list[bytes]:
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


def test_what_kubectl_needs_is_kept() -> None:
    fields = ((b"warning", b'299 - "x"'), (b"audit-id", b"1"), (b"content-encoding", b"gzip"), (b"retry-after", b"3"))
    lines = lines_of(answer_head(head(429, *fields), request(), b"r", close=False).data)
    assert lines[0] == b"HTTP/1.1 429 Too Many Requests"
    for name, value in fields:
        assert name + b": " + value in lines
    assert b"x-content-type-options: nosniff" in lines
    assert b"content-security-policy: sandbox" in lines
    assert b"riata-request-id: r" in lines


@pytest.mark.parametrize(
    "name",
    [
        b"set-cookie", b"location", b"strict-transport-security", b"content-security-policy", b"www-authenticate",
        b"access-control-allow-origin", b"connection", b"transfer-encoding", b"keep-alive", b"upgrade", b"trailer",
        b"proxy-authenticate", b"refresh", b"clear-site-data", b"alt-svc", b"impersonate-user", b"sec-websocket-accept",
        b"x-accel-redirect", b"x-sendfile", b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"surrogate-control",
    ],
)  # fmt: skip
def test_what_a_cluster_may_not_say(name: bytes) -> None:
    data = answer_head(head(200, (name, b"CANARY")), request(), b"r", close=False).data
    assert b"CANARY" not in data


@pytest.mark.parametrize(
    ("method", "version", "status", "length", "body"),
    [
        (b"GET", b"1.1", 200, b"5", Body.LENGTH),
        (b"GET", b"1.1", 200, None, Body.CHUNKED),
        (b"GET", b"1.0", 200, None, Body.UNTIL_CLOSE),
        (b"HEAD", b"1.1", 200, b"5", Body.NONE),
        (b"GET", b"1.1", 204, b"5", Body.NONE),
        (b"GET", b"1.1", 304, b"5", Body.NONE),
        (b"GET", b"1.1", 500, b"0", Body.LENGTH),
    ],
)
def test_framing(method: bytes, version: bytes, status: int, length: bytes | None, body: Body) -> None:
    fields = () if length is None else ((b"content-length", length),)
    answer = answer_head(head(status, *fields), request(method, version), b"r", close=False)
    assert answer.body is body
    assert (b"transfer-encoding: chunked" in answer.data) == (body is Body.CHUNKED)
    told = length is not None and status != 204
    assert (b"content-length" in answer.data) == told


@pytest.mark.parametrize(
    "fields",
    [
        ((b"content-length", b"5"), (b"content-length", b"5")),
        ((b"content-length", b"+5"),),
        ((b"content-length", b"5, 5"),),
        ((b"content-length", b""),),
    ],
)
def test_bad_lengths(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(BadAnswer):
        answer_head(head(200, *fields), request(), b"r", close=False)


@pytest.mark.parametrize("status", [100, 101, 103])
def test_an_interim_status_is_no_answer(status: int) -> None:
    with pytest.raises(BadAnswer):
        answer_head(head(status), request(), b"r", close=False)


WS = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def test_switching_names_the_protocol_that_was_asked_for() -> None:
    message = head(101, (b"sec-websocket-accept", b"x"), (b"sec-websocket-protocol", b"v5"), (b"set-cookie", b"a"))
    lines = lines_of(switching_head(message, request(lines=WS), (b"v5", b"v4"), b"r"))
    assert lines == [
        b"HTTP/1.1 101 Switching Protocols",
        b"connection: Upgrade",
        b"upgrade: websocket",
        b"sec-websocket-accept: x",
        b"sec-websocket-protocol: v5",
        b"riata-request-id: r",
    ]


def test_a_subprotocol_that_was_not_offered() -> None:
    with pytest.raises(BadAnswer):
        switching_head(head(101, (b"sec-websocket-protocol", b"evil")), request(lines=WS), (b"v5",), b"r")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"no-cache, private", b"no-cache, private"),
        (b"no-store", b"no-store"),
        (b"public, immutable", b"private, immutable"),
        (b"PUBLIC,max-age=600", b"private, max-age=600"),
        (b"s-maxage=60, max-age=5", b"private, max-age=5"),
        (b"max-age=5, must-revalidate", b"private, max-age=5, must-revalidate"),
        (b"", b"private"),
    ],
)
def test_no_cache_in_front_keeps_one_users_answer_for_another(value: bytes, kept: bytes) -> None:
    """RFC 9111 §3.5: these let a shared cache answer a request with `Authorization` by what it has."""
    data = answer_head(head(200, (b"cache-control", value)), request(), b"r", close=False).data
    assert [line for line in lines_of(data) if line.startswith(b"cache-control")] == [b"cache-control: " + kept]


APPS = b"/openapi/v3/apis/apps/v1"


@pytest.mark.parametrize(
    ("status", "method", "asked", "location", "is_passed"),
    [
        (301, b"GET", b"/k8s/clusters/a%b?hash=1" % APPS, b"%b?hash=AB" % APPS, True),
        (301, b"HEAD", b"/k8s/clusters/a%b?hash=1" % APPS, b"%b?hash=AB" % APPS, True),
        (302, b"GET", b"/k8s/clusters/a%b?hash=1" % APPS, b"%b?hash=AB" % APPS, False),
        (301, b"POST", b"/k8s/clusters/a%b?hash=1" % APPS, b"%b?hash=AB" % APPS, False),
        (301, b"GET", b"/k8s/clusters/a%b" % APPS, b"%b?hash=AB" % APPS, False),
        (301, b"GET", b"/k8s/clusters/a/openapi/v3/api/v1?hash=1", b"%b?hash=AB" % APPS, False),
        (301, b"GET", b"/k8s/clusters/a%b?hash=1" % APPS, b"/k8s/clusters/b%b?hash=AB" % APPS, False),
        (301, b"GET", b"/k8s/clusters/a%b?hash=1" % APPS, b"//evil.example%b?hash=AB" % APPS, False),
        (301, b"GET", b"/k8s/clusters/a%b?hash=1" % APPS, b"%b?hash=AB&x=y" % APPS, False),
        (301, b"GET", b"/k8s/clusters/a/api/v1/nodes/n/proxy%b?hash=1" % APPS, b"%b?hash=AB" % APPS, False),
    ],
)
def test_the_one_redirect_of_an_api_server_stays_in_its_cluster(
    status: int, method: bytes, asked: bytes, location: bytes, is_passed: bool
) -> None:
    """kubectl explain and Helm ask for a document by the hash of its version, which another API server may not have."""
    of = request(method)
    of.target = asked
    data = answer_head(head(status, (b"location", location)), of, b"r", close=False).data
    expected = [b"location: ?hash=AB"] if is_passed else []
    assert [line for line in lines_of(data) if line.startswith(b"location")] == expected


def test_caches_are_not_told_behind_the_body_either() -> None:
    fields = (
        (b"cdn-cache-control", b"public"),
        (b"surrogate-control", b"x"),
        (b"cache-control", b"public"),
        (b"a", b"b"),
    )
    assert last_chunk(fields) == b"0\r\na: b\r\n\r\n"
