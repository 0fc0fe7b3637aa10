"""Which answers are compressed."""

import pytest

from agent.relay.compress import is_worth
from proto.messages import HttpRequest


def headers(**fields):
    return tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())


def request(method="GET", path=b"/api/v1/pods", **more):
    return HttpRequest(method=method, path=path, headers=(), **more)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", True),
        ("application/json;stream=watch", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.kubernetes.protobuf", True),
        ("application/vnd.kubernetes.protobuf;stream=watch", True),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", True),
        ("application/yaml", True),
        ("application/com.github.proto-openapi.spec.v3.v1.0+protobuf", True),
        ("text/plain", False),
        ("text/html", False),
        ("application/octet-stream", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_what_api_servers_speak_of_their_objects_in(kind, expected):
    assert is_worth(request(), 200, headers(content_type=kind)) is expected


def test_a_small_answer_pays_nothing():
    assert not is_worth(request(), 200, headers(content_type="application/json", content_length="4095"))
    assert is_worth(request(), 200, headers(content_type="application/json", content_length="4096"))


def test_nothing_that_has_a_coding_or_may_not_have_one():
    json = headers(content_type="application/json")
    assert is_worth(request(), 200, json)
    assert not is_worth(request(), 200, (*json, (b"content-encoding", b"gzip")))
    assert not is_worth(request("POST"), 200, json)
    assert not is_worth(request("HEAD"), 200, json)
    assert not is_worth(request(), 404, json)
    assert not is_worth(request(), 206, json)
    assert not is_worth(request(upgrade="websocket"), 200, json)
    assert not is_worth(request(ext={"zstd": 0}), 200, json)


@pytest.mark.parametrize(
    ("query", "is_watch"),
    [
        (b"?watch=1", True),
        (b"?watch=true", True),
        (b"?resourceVersion=5&watch=True&x=1", True),
        (b"?watch=true&sendInitialEvents=true", False),
        (b"?watch=0", False),
        (b"?watch=false", False),
        (b"?nowatch=1", False),
        (b"?watch=10", False),
        (b"", False),
    ],
)
def test_events_go_as_they_are_to_a_hub_that_is_near(query, is_watch):
    asked, json = request(path=b"/api/v1/pods" + query), headers(content_type="application/json")
    assert is_worth(asked, 200, json, is_near=True) is not is_watch
    assert is_worth(asked, 200, json, is_near=False)
