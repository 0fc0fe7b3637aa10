"""hub/proxy/fields.py: the allow-list and the credential (facts/security.md §2.A)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import errors
from hub.edge.framing import read_request
from hub.edge.head import parse_head
from hub.proxy.fields import Sorted, sort_fields


def sort(lines: bytes, *, upgrade: bytes = b"") -> Sorted:
    if upgrade:
        lines += b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
    return sort_fields(read_request(parse_head(b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n"), 0.0, "p"))


def test_only_the_allow_list_goes_on() -> None:
    sorted_fields = sort(
        b"Accept: a/b\r\nUser-Agent: kubectl\r\nX-Remote-User: root\r\nX-Forwarded-User: r\r\nForwarded: for=x\r\n"
        b"X-Real-Ip: 1\r\nX-Auth-Request: x\r\nCookie: a=b\r\nProxy-Authorization: Basic x\r\nX-Api-Key: k\r\n"
        b"Te: trailers\r\nTrailer: Impersonate-User\r\nProxy-Connection: Impersonate-User\r\nKeep-Alive: 1\r\n"
        b"X-Custom: 1\r\nKubectl-Command: get\r\nAuthorization: Bearer t\r\n"
    )
    assert sorted_fields.forwarded == [(b"accept", b"a/b"), (b"user-agent", b"kubectl"), (b"kubectl-command", b"get")]
    assert sorted_fields.bearer.text == b"t"


def plain(found: Sorted) -> tuple[object, ...]:
    """To be compared: a credential equals none, not even itself."""
    return found.forwarded, found.claims, found.bearer.text, found.subprotocols


def test_connection_removes_what_it_names_but_never_our_own() -> None:
    lines = b"Accept: a\r\nConnection: Accept, Authorization\r\nAuthorization: Bearer t\r\n"
    assert plain(sort(lines)) == ([], [], b"t", ())


@given(st.sets(st.sampled_from([b"authorization", b"host", b"close", b"x-request-id", b"riata-request-id"])))
def test_naming_fields_in_connection_changes_nothing_of_ours(names: set[bytes]) -> None:
    """A8: whatever `Connection` lists, the credential is read and the forwarded set stays."""
    line = b"Connection: " + b", ".join(sorted(names)) + b"\r\n" if names else b""
    expected = sort(b"Accept: a\r\nAuthorization: Bearer t\r\n")
    assert plain(sort(b"Accept: a\r\nAuthorization: Bearer t\r\n" + line)) == plain(expected)


@pytest.mark.parametrize(
    "value",
    [b"close, Impersonate-User", b"keep-alive,\tImpersonate-Group", b"impersonate-extra-x", b"x , IMPERSONATE-UID ,"],
)
def test_connection_must_not_name_an_identity(value: bytes) -> None:
    with pytest.raises(errors.BadRequest):
        sort(b"Connection: " + value + b"\r\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"", b""),
        (b"Authorization: Bearer abc.def==\r\n", b"abc.def=="),
        (b"Authorization:   bearer   abc  \r\n", b"abc"),
        (b"Authorization: Bearer a b\r\n", b""),
        (b"Authorization: Basic abc\r\n", b""),
        (b"Authorization: Bearer\r\n", b""),
        (b"Authorization: Bearerabc\r\n", b""),
    ],
)
def test_bearer(lines: bytes, expected: bytes) -> None:
    assert sort(lines).bearer.text == expected


def test_two_credentials_are_ambiguous() -> None:
    with pytest.raises(errors.BadRequest):
        sort(b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n")


def protocol(token: bytes) -> bytes:
    return b"base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(token).rstrip(b"=")


def test_bearer_as_subprotocol_is_taken_out() -> None:
    line = b"Sec-WebSocket-Protocol: " + protocol(b"riata_x_y") + b", v5.channel.k8s.io\r\n"
    second = b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n"
    sorted_fields = sort(line + second, upgrade=b"websocket")
    assert sorted_fields.bearer.text == b"riata_x_y"
    assert sorted_fields.subprotocols == (b"v5.channel.k8s.io", b"v4.channel.k8s.io")
    assert all(name != b"sec-websocket-protocol" for name, _ in sorted_fields.forwarded)


def test_port_forward_of_kubectl_is_a_subprotocol() -> None:
    line = b"Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n"
    assert sort(line, upgrade=b"websocket").subprotocols == (b"SPDY/3.1+portforward.k8s.io",)


def test_subprotocols_of_a_plain_request_are_dropped() -> None:
    assert plain(sort(b"Sec-WebSocket-Protocol: " + protocol(b"t") + b"\r\n")) == ([], [], b"", ())


@pytest.mark.parametrize(
    "lines",
    [
        b"Sec-WebSocket-Protocol: " + protocol(b"t") + b"\r\n",
        b"Sec-WebSocket-Protocol: " + protocol(b"t") + b", " + protocol(b"u") + b", x\r\n",
        b"Authorization: Bearer t\r\nSec-WebSocket-Protocol: x, " + protocol(b"t") + b"\r\n",
        b"Sec-WebSocket-Protocol: x, base64url.bearer.authorization.k8s.io.!!\r\n",
        b"Sec-WebSocket-Protocol: x, base64url.bearer.authorization.k8s.io.\r\n",
        b"Sec-WebSocket-Protocol: x, " + protocol(b"a b") + b"\r\n",
        b"Sec-WebSocket-Protocol: x,,y\r\n",
        b"Sec-WebSocket-Protocol: a b\r\n",
    ],
)
def test_malformed_subprotocols(lines: bytes) -> None:
    with pytest.raises(errors.BadRequest):
        sort(lines, upgrade=b"websocket")


def test_upgrade_fields_go_on_only_with_an_upgrade() -> None:
    lines = b"X-Stream-Protocol-Version: v4\r\nX-Stream-Protocol-Version: v3\r\nSec-WebSocket-Extensions: x\r\n"
    assert sort(lines).forwarded == []
    assert sort(lines, upgrade=b"SPDY/3.1").forwarded == [
        (b"x-stream-protocol-version", b"v4"),
        (b"x-stream-protocol-version", b"v3"),
    ]
