"""hub/edge/head.py: the grammar of request heads."""

from __future__ import annotations

import contextlib

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import errors
from hub.edge import head as heads
from hub.edge.head import Head, check_partial, parse_first_line, parse_head
from hub.edge.limits import FIELD_BYTES_MAX, FIELDS_MAX


def test_a_plain_head() -> None:
    raw = b"GET /k8s/clusters/a/api?x=1 HTTP/1.1\r\nHost: h\r\nX-A:\tv w \t\r\nEmpty:\r\n\r\n"
    assert parse_head(raw) == Head(
        b"GET", b"/k8s/clusters/a/api?x=1", 1, [(b"host", b"h"), (b"x-a", b"v w"), (b"empty", b"")]
    )


def test_http_1_0() -> None:
    assert parse_head(b"GET / HTTP/1.0\r\n\r\n").minor == 0


@pytest.mark.parametrize(
    "line", [b"GET /a HTTP/1.1\r\n", b"GET /a?x HTTP/1.1\r\n", b"GET /%s HTTP/1.1\r\n" % (b"a" * 600)]
)
def test_a_first_line_says_the_same_again(line: bytes) -> None:
    expected = (b"GET", line.split(b" ")[1], 1)
    assert parse_first_line(line) == parse_first_line(line) == expected
    assert parse_first_line(line[:-2]) is parse_first_line(b"G" + line) is None


def test_neither_queries_nor_long_lines_are_remembered() -> None:
    heads._remembered.cache_clear()
    for number in range(3):
        parse_first_line(b"GET /a?token=%d HTTP/1.1\r\n" % number)
        parse_first_line(b"GET /%s%d HTTP/1.1\r\n" % (b"a" * 600, number))
        parse_first_line(b"GET /a%d HTTP/1.1\r\n" % number)
    assert heads._remembered.cache_info().currsize == 3


REFUSED = [
    (b"GET / HTTP/2.0\r\n\r\n", 505),
    (b"GET / HTTP/1.2\r\n\r\n", 505),
    (b"GET / HTTP/0.9\r\n\r\n", 505),
    (b"GET /\r\n\r\n", 505),
    (b"TRACE / HTTP/1.1\r\n\r\n", 405),
    (b"CONNECT h:443 HTTP/1.1\r\n\r\n", 405),
    (b"get / HTTP/1.1\r\n\r\n", 405),
    (b"GET  / HTTP/1.1\r\n\r\n", 400),
    (b"GET\t/ HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\n\r\n", 400),
    (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA: b\x0b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nA\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nImpersonate_User: root\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\xc3\xa9: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (FIELDS_MAX + 1) + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nA: " + b"b" * FIELD_BYTES_MAX + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize(("raw", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_refused(raw: bytes, expected: int) -> None:
    with pytest.raises(errors.HubError) as caught:
        parse_head(raw)
    assert caught.value.http_status == expected


def test_a_refusal_repeats_no_byte_of_the_request() -> None:
    with pytest.raises(errors.BadRequest) as caught:
        parse_head(b"GET / HTTP/1.1\r\nAuthorization: Bearer CANARY\x00\r\n\r\n")
    assert "CANARY" not in caught.value.message


@pytest.mark.parametrize(
    ("raw", "scanned"),
    [(b"GET /a\r\n", 0), (b"GET / HTTP/1.1\nHost: h\n\n", 0), (b"\x16\x03\x01", 0), (b"GET / HTTP/1.1\r\nA: b\n", 16)],
)
def test_what_can_no_longer_become_a_head_is_refused_early(raw: bytes, scanned: int) -> None:
    with pytest.raises(errors.HubError):
        check_partial(raw, scanned)


@pytest.mark.parametrize("raw", [b"G", b"GET / HT", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: h\r\n"])
def test_what_may_become_a_head_waits(raw: bytes) -> None:
    check_partial(raw, 0)
    check_partial(raw, len(raw))


class Reader:
    """httptools' callbacks: the second opinion."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))


TOKEN = st.text("abcXYZ-!~09", min_size=1, max_size=12).map(str.encode)
VALUE = st.binary(max_size=30).map(lambda raw: bytes(c for c in raw if c == 9 or 32 <= c != 127))


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=8), st.text("/ab.%20?=", max_size=20))
def test_what_we_accept_llhttp_reads_alike(fields: list[tuple[bytes, bytes]], path: str) -> None:
    fields = [field for field in fields if field[0].lower() not in (b"connection", b"upgrade")]
    raw = b"GET /" + path.encode() + b" HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
    head = parse_head(raw)
    reader = Reader()
    httptools.HttpRequestParser(reader).feed_data(raw)
    assert (reader.url, reader.fields) == (head.target, head.fields)


@given(st.binary(max_size=200))
def test_noise_is_a_head_or_a_hub_error(noise: bytes) -> None:
    for raw in (noise, b"GET / HTTP/1.1\r\n" + noise + b"\r\n\r\n"):
        with contextlib.suppress(errors.BadRequest, errors.MethodNotAllowed, errors.VersionNotSupported):
            parse_head(raw)
