"""hub/edge/response.py: answers of the hub's own."""

from __future__ import annotations

from hub import errors
from hub.edge.response import chunk_head, error_response, status_line


def test_status_lines() -> None:
    assert status_line(200) == b"HTTP/1.1 200 OK\r\n"
    assert status_line(299) == b"HTTP/1.1 299 \r\n"


def test_heads_of_chunks_small_and_large() -> None:
    assert [chunk_head(size) for size in (1, 15, 16, 2047, 2048, 65_536)] == [
        b"1\r\n", b"f\r\n", b"10\r\n", b"7ff\r\n", b"800\r\n", b"10000\r\n",
    ]  # fmt: skip


def test_an_error_is_whole_and_says_whether_it_closes() -> None:
    raw = error_response(errors.Unauthenticated(), request_id="r1", is_head=False, close=True)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"connection: close" in head
    assert b"www-authenticate: Bearer" in head
    assert b"riata-request-id: r1" in head


def test_head_gets_the_length_but_no_body() -> None:
    raw = error_response(errors.NotFound(), request_id="", is_head=True, close=False)
    assert raw.endswith(b"\r\n\r\n")
    assert b"content-length: 0" not in raw
    assert b"connection" not in raw
