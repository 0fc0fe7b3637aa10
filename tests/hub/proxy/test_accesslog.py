"""hub/proxy/accesslog.py: one line, no secret."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from hub import errors
from hub.edge.framing import read_request
from hub.edge.head import parse_head
from hub.proxy.accesslog import GROUPS_MAX, AccessLog, acting, safe_path
from proto.directlog import DirectLog
from tests.harness.records import captured


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/api?token=CANARY", "/api"),
        (b"/a%0ab", "/a%0ab"),
        (b"/a\\x", "/a\\\\x"),
        (b"/api/riata_abcdefghij_CANARY", "/api/riata_abcdefghij_[redacted]"),
        (b"/" + b"x" * 600, "/" + "x" * 511 + "..."),
    ],
)
def test_paths(target: bytes, shown: str) -> None:
    request = read_request(parse_head(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n"), 0.0, "p")
    assert safe_path(request) == shown


def test_malformed_requests_are_rationed_and_counted() -> None:
    now = 0.0
    with captured() as lines:
        log = AccessLog(lambda: now, 2.0)
        for _ in range(10):
            log.malformed("id", "1.2.3.4:5", errors.BadRequest())
        assert len(lines) == 2
        now = 1.0
        log.malformed("id", "1.2.3.4:5", errors.BadRequest())
    assert lines[-1]["suppressed"] == 8
    assert lines[-1]["status"] == 400


async def test_requests_of_one_turn_are_written_together() -> None:
    stream = io.StringIO()
    log = AccessLog(lambda: 0.0, 2.0, DirectLog(stream, "hub"))
    log.request({"path": "/a"})
    log.request({"path": "/b"})
    assert stream.getvalue() == ""
    await asyncio.sleep(0)
    assert [json.loads(line)["path"] for line in stream.getvalue().splitlines()] == ["/a", "/b"]
    log.request({"path": "/c"})
    log.flush()
    assert stream.getvalue().count("\n") == 3


def test_a_line_names_some_groups_and_how_many_more() -> None:
    claims = [(b"impersonate-user", b"bob"), *((b"impersonate-group", b"g%d" % number) for number in range(100))]
    fields = acting(claims, "riata:bob")
    groups = fields["as_groups"]
    assert isinstance(groups, list)
    assert groups[0] == "riata:g0"
    assert groups[GROUPS_MAX:] == ["and 68 more"]
