"""The cluster's own policy: facts/security.md §2.A and §2.G as seen by the agent."""

import os

import pytest

from agent.errors import ConfigError, Refused
from agent.relay import policy as policies
from agent.relay.policy import CHECK_INTERVAL, Policy
from proto.messages import HttpRequest

USER = (b"impersonate-user", b"riata:alice")


def request(*fields, method="GET", path=b"/api/v1/pods", upgrade=""):
    return HttpRequest(method=method, path=path, headers=fields, upgrade=upgrade)


def reason(policy, message):
    with pytest.raises(Refused) as caught:
        policy.admit(message, 0.0)
    return caught.value.reason


def test_identity_and_listed_headers_pass_and_unknown_ones_are_left_out():
    group = (b"impersonate-group", b"riata:dev")
    extra = (b"impersonate-extra-riata.io%2frequest-id", b"0b9d-1")
    accept = (b"accept", b"application/json;as=Table")
    assert Policy().admit(request(accept, USER, group, extra, (b"x-later", b"1")), 0.0) == (accept, USER, group, extra)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"impersonate-group", b"riata:dev"),),
        ((b"impersonate-extra-riata.io%2frequest-id", b"1"),),
        (USER, USER),
        (USER, (b"impersonate-user", b"riata:bob")),
        ((b"impersonate-user", b""),),
        ((b"impersonate-user", b"riata:"),),
        ((b"impersonate-user", b"alice"),),
        ((b"impersonate-user", b"RIATA:alice"),),
        ((b"impersonate-user", b" riata:alice"),),
        ((b"impersonate-user", b"system:admin"),),
        ((b"impersonate-user", b"system:serviceaccount:kube-system:x"),),
        ((b"impersonate-user", b"riata:" + b"x" * 600),),
        (USER, (b"impersonate-group", b"system:masters")),
        (USER, (b"impersonate-group", b"riata:")),
        (USER, (b"impersonate-group", b"riata:dev"), (b"impersonate-group", b"dev")),
        (USER, *[(b"impersonate-group", b"riata:g%d" % i) for i in range(257)]),
    ],
)
def test_requests_without_a_proper_identity_are_refused(fields):
    assert reason(Policy(), request(*fields)) == "identity"


@pytest.mark.parametrize(
    "field",
    [
        (b"authorization", b"Bearer x"),
        (b"proxy-authorization", b"Basic x"),
        (b"cookie", b"a=b"),
        (b"impersonate-uid", b"0"),
        (b"impersonate-extra-scopes", b"x"),
        (b"impersonate-extra-", b"x"),
        (b"impersonate-foo", b"x"),
        (b"impersonate_user", b"root"),
        (b"x-remote-user", b"root"),
        (b"x-remote-group", b"system:masters"),
        (b"x-remote-extra-a", b"b"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"connection", b"close, impersonate-user"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"trailers"),
        (b"keep-alive", b"1"),
        (b"host", b"evil.test"),
        (b"expect", b"100-continue"),
        (b"accept", b"a\r\nimpersonate-user: root"),
        (b"accept", b"a\nb"),
        (b"accept", b"a\x00b"),
        (b"accept\r\nx", b"a"),
        (b"Accept", b"a"),
        (b"", b"a"),
        (b"content-length", b"+1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b""),
        (b"impersonate-extra-riata.io%2frequest-id", b"a b"),
        (b"impersonate-extra-riata.io%2frequest-id", b"x" * 129),
    ],
)
def test_headers_that_are_not_the_hubs_to_set(field):
    assert reason(Policy(), request(field, USER)) == "header"


@pytest.mark.parametrize("name", [b"content-length", b"impersonate-extra-riata.io%2frequest-id"])
def test_fields_that_may_stand_once(name):
    assert reason(Policy(), request((name, b"1"), USER, (name, b"1"))) == "header"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "get", "GET /x HTTP/1.1\r\n", "PROPFIND"])
def test_methods(method):
    assert reason(Policy(), request(USER, method=method)) == "method"


@pytest.mark.parametrize(
    "path",
    [b"api", b"", b"//../x", b"/a/../b", b"/a/%2e%2e/b", b"/a b", b"/a\r\nx", b"/a#b", b"/a%zz", b"/\xff", b"*"],
)
def test_targets(path):
    assert reason(Policy(), request(USER, path=path)) == "target"


@pytest.mark.parametrize(
    ("upgrade", "method", "fields"),
    [
        ("h2c", "GET", ()),
        ("tcp", "GET", ()),
        ("websocket, h2c", "GET", ()),
        ("spdy/3.1", "GET", ()),
        ("websocket", "PUT", ()),
        ("websocket", "GET", ((b"content-length", b"44"),)),
    ],
)
def test_upgrades(upgrade, method, fields):
    assert reason(Policy(), request(USER, *fields, method=method, upgrade=upgrade)) == "upgrade"


def write(path, text, mtime):
    path.write_text(text)
    os.utime(path, (mtime, mtime))


def test_the_policy_file_names_exceptions_and_is_followed(tmp_path):
    path = tmp_path / "policy.toml"
    write(path, 'users = ["system:serviceaccount:ci:robot"]\ngroups = ["system:masters"]\n', 1)
    policy = Policy(path)
    robot = request((b"impersonate-user", b"system:serviceaccount:ci:robot"), (b"impersonate-group", b"system:masters"))
    assert policy.admit(robot, 0.0)
    write(path, "users = []\n", 2)
    assert policy.admit(robot, CHECK_INTERVAL / 2), "the file is looked at once in an interval"
    with pytest.raises(Refused):
        policy.admit(robot, CHECK_INTERVAL)


@pytest.mark.parametrize("text", ["users = 3", "users = [3]", "nobody = []", "users = [", 'groups = [""]'])
def test_a_broken_policy_file_is_refused_at_start_and_allows_nothing_later(tmp_path, text):
    path = tmp_path / "policy.toml"
    write(path, text, 1)
    with pytest.raises(ConfigError):
        Policy(path)
    write(path, 'users = ["bob"]', 2)
    policy = Policy(path)
    bob = request((b"impersonate-user", b"bob"))
    assert policy.admit(bob, 0.0)
    write(path, text, 3)
    with pytest.raises(Refused):
        policy.admit(bob, CHECK_INTERVAL)
    assert policy.admit(request(USER), CHECK_INTERVAL)


def test_a_missing_policy_file(tmp_path):
    path = tmp_path / "policy.toml"
    with pytest.raises(ConfigError, match="--policy-file"):
        Policy(path)
    write(path, 'users = ["bob"]', 1)
    policy = Policy(path)
    path.unlink()
    with pytest.raises(Refused):
        policy.admit(request((b"impersonate-user", b"bob")), 0.0)
    write(path, 'users = ["bob"]', 1)
    assert policy.admit(request((b"impersonate-user", b"bob")), CHECK_INTERVAL)


def test_neither_queries_nor_long_targets_are_remembered():
    policies._remembered.cache_clear()
    for number in range(3):
        for text in (b"/a?token=%d", b"/" + b"a" * 600 + b"%d", b"/a%d"):
            assert policies._is_target(text % number)
            assert policies._is_target(text % number + b"/..") is (b"?" in text)
    assert policies._remembered.cache_info().currsize == 6
