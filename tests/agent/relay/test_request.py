"""Request bytes."""

from hypothesis import given
from hypothesis import strategies as st

from agent.relay.endpoint import Endpoint
from agent.relay.request import chunk, content_length, head_bytes
from proto.messages import HttpRequest

ENDPOINT = Endpoint.from_url("https://kube.test:6443/base")


def head(method="GET", upgrade="", passed=(), **more):
    options = {"authorization": b"Bearer t", "is_chunked": False, "has_length": False, **more}
    request = HttpRequest(method=method, path=b"/api?x=%2F", headers=(), upgrade=upgrade)
    return head_bytes(request, passed, ENDPOINT, **options)


def test_the_target_is_byte_for_byte_behind_the_base_path():
    assert head() == b"GET /base/api?x=%2F HTTP/1.1\r\nhost: kube.test:6443\r\nauthorization: Bearer t\r\n\r\n"


def test_no_authorization_with_a_client_certificate():
    assert b"authorization" not in head(authorization=b"")


def test_body_framing():
    assert b"transfer-encoding: chunked\r\n" in head("POST", is_chunked=True)
    assert b"content-length: 0\r\n" in head("POST")
    passed = ((b"content-length", b"7"),)
    assert head("POST", passed=passed, has_length=True).count(b"content-length") == 1
    assert content_length(passed) == 7
    assert content_length(()) is None


def test_upgrades():
    written = head("POST", upgrade="SPDY/3.1")
    assert b"connection: Upgrade\r\nupgrade: SPDY/3.1\r\n" in written
    assert b"content-length" not in written


@given(st.binary(min_size=1, max_size=70_000))
def test_chunks(piece):
    size, _, rest = chunk(piece).partition(b"\r\n")
    assert int(size, 16) == len(piece)
    assert rest == piece + b"\r\n"
