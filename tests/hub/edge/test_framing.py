"""hub/edge/framing.py: length, persistence, expectation, upgrade."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import errors
from hub.edge.framing import CHUNKED, Known, Request, host_name, read_again, read_request, remember
from hub.edge.head import parse_head
from hub.edge.limits import REMEMBERED_BYTES_MAX


def read(
    lines: bytes, *, method: bytes = b"POST", version: bytes = b"1.1", hosts: frozenset[bytes] | None = None
) -> Request:
    raw = b"%b / HTTP/%b\r\n%b\r\n" % (method, version, lines)
    return read_request(parse_head(raw), 0.0, "peer", hosts)


H = b"Host: h\r\n"


def test_lengths() -> None:
    assert read(H).length == 0
    assert read(H + b"Content-Length: 12\r\n").length == 12
    assert read(H + b"Transfer-Encoding: Chunked\r\n").length == CHUNKED


def test_persistence() -> None:
    assert read(H).is_keep_alive
    assert not read(H + b"Connection: x, Close\r\n").is_keep_alive
    assert not read(H + b"Connection: keep-alive\r\n", version=b"1.0").is_keep_alive


def test_expectation_matters_only_with_a_body() -> None:
    assert not read(H + b"Expect: 100-continue\r\n").expects_continue
    assert read(H + b"Expect: 100-Continue\r\nContent-Length: 1\r\n").expects_continue


@pytest.mark.parametrize(
    ("token", "expected"), [(b"websocket", "websocket"), (b"WebSocket", "websocket"), (b"SPDY/3.1", "SPDY/3.1")]
)
def test_upgrades(token: bytes, expected: str) -> None:
    assert read(H + b"Connection: Upgrade\r\nUpgrade: " + token + b"\r\n").upgrade == expected


def test_an_upgrade_header_alone_means_nothing() -> None:
    assert read(H + b"Upgrade: websocket\r\n").upgrade == ""


REFUSED = [
    (b"", 400),
    (H + H, 400),
    (b"Host:\r\n", 400),
    (b"Host: a,b\r\n", 400),
    (b"Host: h/../x@y\r\n", 400),
    (b"Host: h:99999\r\n", 400),
    (b"Host: h:0\r\n", 400),
    (H + b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
    (H + b"Content-Length: 3, 3\r\n", 400),
    (H + b"Content-Length: +3\r\n", 400),
    (H + b"Content-Length: -3\r\n", 400),
    (H + b"Content-Length: 0x3\r\n", 400),
    (H + b"Content-Length: 1_0\r\n", 400),
    (H + b"Content-Length:\r\n", 400),
    (H + b"Content-Length: 99999999999999999999\r\n", 400),
    (H + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
    (H + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400),
    (H + b"Transfer-Encoding: gzip, chunked\r\n", 501),
    (H + b"Transfer-Encoding: chunked, identity\r\n", 501),
    (H + b"Transfer-Encoding: xchunked\r\n", 501),
    (H + b"Transfer-Encoding: \x0bchunked\r\n", 400),
    (H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    (H + b"Expect: 200-ok\r\n", 417),
    (H + b"Expect: 100-continue\r\nExpect: 100-continue\r\n", 417),
    (H + b"Connection: upgrade\r\nUpgrade: h2c\r\n", 400),
    (H + b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n", 400),
    (H + b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n", 400),
    (H + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n", 400),
    (H + b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n", 400),
]


@pytest.mark.parametrize(("lines", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_refused(lines: bytes, expected: int) -> None:
    with pytest.raises(errors.HubError) as caught:
        read(lines)
    assert caught.value.http_status == expected


def test_http_1_0_knows_no_transfer_encoding_and_no_upgrade() -> None:
    for lines in (b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"):
        with pytest.raises(errors.BadRequest):
            read(H + lines, version=b"1.0")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("lines", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_get_and_head_take_no_body(method: bytes, lines: bytes) -> None:
    with pytest.raises(errors.BadRequest):
        read(H + lines, method=method)
    assert read(H + b"Content-Length: 0\r\n", method=method).length == 0


@pytest.mark.parametrize("host", [b"hub_1:8443", b"_hub.example", b"10.0.0.1", b"[fd00::1]:8443"])
def test_hosts(host: bytes) -> None:
    """Underscores are in no host name of RFC 1123, and in those of Windows networks and of compose files."""
    assert read(b"Host: " + host + b"\r\n").host == host


def test_configured_host_names() -> None:
    """curl and kubectl send the dot that ends a whole name in DNS, where the URL has it."""
    hosts = frozenset(map(host_name, (b"hub.example", b"other.example.", b"[::1]", b"fd00::7")))
    good_ones = b"Hub.Example", b"hub.example.:8443", b"hub.example.", b"other.example", b"[::1]:1", b"[FD00::7]"
    for good in good_ones:
        assert read(b"Host: " + good + b"\r\n", hosts=hosts).host == good
    for bad in (b"evil.example", b"hub.example..", b".hub.example", b"[::2]"):
        with pytest.raises(errors.BadRequest):
            read(b"Host: " + bad + b"\r\n", hosts=hosts)


@pytest.mark.parametrize("probe", [b"/livez", b"/readyz"])
def test_probes_come_by_any_address_and_vouch_for_no_request_behind_them(probe: bytes) -> None:
    """A kubelet names the pod's address. The same fields on the same connection are looked at for what is no probe."""
    hosts, block = frozenset({b"hub.example"}), b" HTTP/1.1\r\nHost: 10.42.0.7:8443\r\n\r\n"
    raw = b"GET " + probe + block
    request = read_request(parse_head(raw), 0.0, "10.0.0.1", hosts)
    assert request.host == b"10.42.0.7:8443"
    assert remember(raw, request) is None
    for other in (probe + b"/x", probe + b"?a", b"/v1/tokens", b"/k8s/clusters/a" + probe):
        with pytest.raises(errors.BadRequest):
            read_request(parse_head(b"GET " + other + block), 0.0, "10.0.0.1", hosts)


@pytest.mark.parametrize("probe", [b"/livez", b"/readyz"])
def test_probes_of_http_1_0_may_come_by_no_address(probe: bytes) -> None:
    """As HAProxy's `option httpchk GET /readyz` asks. For anything else somebody has to be named."""
    request = read_request(parse_head(b"GET " + probe + b" HTTP/1.0\r\n\r\n"), 0.0, "peer", frozenset({b"hub.example"}))
    assert (request.host, request.is_keep_alive) == (b"", False)
    for raw in (
        b"GET " + probe + b" HTTP/1.1\r\n\r\n",
        b"GET " + probe + b" HTTP/1.0\r\n" + H + H + b"\r\n",
        b"GET " + probe + b" HTTP/1.0\r\nHost: a,b\r\n\r\n",
        b"GET /version HTTP/1.0\r\n\r\n",
        b"GET /k8s/clusters/a/readyz HTTP/1.0\r\n\r\n",
    ):
        with pytest.raises(errors.BadRequest):
            read_request(parse_head(raw), 0.0, "peer")


@pytest.mark.parametrize(
    "raw", [b"GET /a HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n", b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n"]
)
def test_idle_connections_keep_no_long_heads(raw: bytes) -> None:
    """One user with fifteen thousand of them held 1.5 GB."""
    bare = len(raw % b"")
    for size, is_kept in ((REMEMBERED_BYTES_MAX - bare, True), (REMEMBERED_BYTES_MAX - bare + 1, False)):
        head = raw % (b"y" * size)
        assert (remember(head, read_request(parse_head(head), 0.0, "p")) is not None) is is_kept


BLOCKS = [
    b"Host: h\r\nAuthorization: Bearer a\r\n\r\n",
    b"Host: h\r\nAuthorization: Bearer b\r\n\r\n",
    b"Host: h\r\nConnection: close\r\n\r\n",
    b"Host: h\r\nContent-Length: 0\r\n\r\n",
    b"Host: h\r\nContent-Length: 3\r\n\r\n",
    b"Host: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"Host: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"Host: h\r\nTransfer-Encoding: chunked\r\n\r\n",
]
LINES = [
    b"GET /a HTTP/1.1\r\n", b"POST /b?x=1 HTTP/1.1\r\n", b"GET /a HTTP/1.0\r\n", b"HEAD /%2e HTTP/1.1\r\n",
    b"TRACE /a HTTP/1.1\r\n", b"GET  /a HTTP/1.1\r\n", b"GET * HTTP/1.1\r\n", b"GET /a HTTP/2.0\r\n", b"GET /a\r\n",
]  # fmt: skip


def outcome(read: Callable[[], Request]) -> object:
    try:
        request = read()
    except errors.HubError as error:
        return type(error), error.message
    return dataclasses.replace(request, memo={})


@given(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(BLOCKS)), max_size=6))
def test_a_remembered_head_reads_as_a_new_one(heads: list[tuple[bytes, bytes]]) -> None:
    """What a connection remembers of its last request never changes what the next one says."""
    known: Known | None = None
    for line, block in heads:
        raw = line + block

        def anew(raw: bytes = raw) -> Request:
            return read_request(parse_head(raw), 5.0, "peer")

        again = None if known is None else read_again(raw, known, 5.0)
        if again is not None:
            assert outcome(lambda again=again: again) == outcome(anew)  # type: ignore[misc]
        if not isinstance(outcome(anew), tuple):
            known = remember(raw, anew())


def test_equal_fields_share_what_was_derived_and_others_do_not() -> None:
    raw = LINES[0] + BLOCKS[0]
    first = read_request(parse_head(raw), 1.0, "peer")
    known = remember(raw, first)
    assert known is not None
    again = read_again(LINES[1] + BLOCKS[0], known, 2.0)
    assert again is not None
    assert (again.method, again.target, again.received_at) == (b"POST", b"/b?x=1", 2.0)
    assert again.memo is first.memo
    for other in (LINES[0] + BLOCKS[1], LINES[0] + b"X: y\r\n" + BLOCKS[0], BLOCKS[0], LINES[2] + BLOCKS[0]):
        assert read_again(other, known, 2.0) is None
