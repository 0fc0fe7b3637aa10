"""hub/proxy/classify.py: verb classes after apiserver's RequestInfo."""

from __future__ import annotations

import pytest

from hub.proxy.classify import VERBS, classify
from proto.messages import StreamClass

CASES = [
    ("GET", "/api/v1/pods", "list", False, False),
    ("GET", "/api/v1/namespaces", "list", False, False),
    ("GET", "/api/v1/namespaces/x", "get", False, False),
    ("GET", "/api/v1/namespaces/x/status", "get", False, False),
    ("GET", "/api/v1/namespaces/x/pods", "list", False, False),
    ("GET", "/api/v1/namespaces/x/pods/y", "get", False, False),
    ("HEAD", "/api/v1/namespaces/x/pods/y", "get", False, False),
    ("GET", "/apis/apps/v1/namespaces/x/deployments?limit=500", "list", False, False),
    ("GET", "/api/v1/pods?watch=true", "watch", False, True),
    ("GET", "/api/v1/pods?a=b&watch=1&c=d", "watch", False, True),
    ("GET", "/api/v1/pods?watch", "watch", False, True),
    ("GET", "/api/v1/pods?watch=", "watch", False, True),
    ("GET", "/api/v1/pods?watch=false", "list", False, False),
    ("GET", "/api/v1/pods?watch=0&x", "list", False, False),
    ("GET", "/api/v1/pods?notwatch=1", "list", False, False),
    ("GET", "/api/v1/pods?watch=FALSE", "list", False, False),
    ("GET", "/api/v1/pods?Watch=1", "list", False, False),
    ("GET", "/api/v1/pods?watch=false&watch=1", "list", False, False),
    ("GET", "/api/v1/pods?watch=1&watch=false", "watch", False, True),
    ("GET", "/api/v1/pods?watch=%30", "list", False, False),
    ("GET", "/api/v1/pods?watch=f%61lse", "list", False, False),
    ("GET", "/api/v1/pods?labelSelector=a%3Db&w%61tch=1", "watch", False, True),
    ("GET", "/api/v1/pods?%77%61%74%63%68", "watch", False, True),
    ("GET", "/api/v1/pods?%77%61tch=0&watch=1", "list", False, False),
    ("GET", "/api/v1/pods?watch=true;x=1", "list", False, False),
    ("GET", "/api/v1/pods?watch=true;x=1&watch=1", "watch", False, True),
    ("GET", "/api/v1/pods?labelSelector=watch%3D1", "list", False, False),
    ("GET", "/api/v1/namespaces/x/pods?fieldSelector=metadata.name%3Dy&watch=1", "watch", False, True),
    ("GET", "/api/v1/namespaces/x/pods/?watch=1", "watch", False, True),
    ("GET", "/api/v1/namespaces/x/configmaps/y?watch=1", "get", False, False),
    ("GET", "/api/v1/namespaces/x/configmaps%2Fy?watch=1", "get", False, False),
    ("GET", "/api/v1/namespaces/x?watch=1", "get", False, False),
    ("GET", "/api/v1/namespaces/x/status?watch=1", "get", False, False),
    ("GET", "/apis/apps/v1/namespaces/x/deployments/y/scale?watch=1", "get", False, False),
    ("GET", "/api/v1/watch/pods", "watch", False, True),
    ("GET", "/api/v1/namespaces/x/pods/y/log", "get", False, False),
    ("GET", "/api/v1/namespaces/x/pods/y/log?follow=true", "get", False, True),
    ("GET", "/api/v1/namespaces/x/pods/y/log?f%6fllow", "get", False, True),
    ("GET", "/api/v1/namespaces/x/pods/y/log?follow=false&follow=true", "get", False, False),
    ("GET", "/api/v1/namespaces/x/pods/y/log?watch=1", "get", False, False),
    ("GET", "/debug/pprof/profile?seconds=180", "other", False, True),
    ("GET", "/debug/pprofs", "other", False, False),
    ("GET", "/api/v1/namespaces/x/pods/y/exec?command=ls", "connect", True, True),
    ("POST", "/api/v1/namespaces/x/pods/y/exec?command=ls", "connect", True, True),
    ("POST", "/api/v1/namespaces/x/pods/y/attach", "connect", True, True),
    ("GET", "/api/v1/namespaces/x/pods/y/portforward", "connect", True, True),
    ("GET", "/api/v1/nodes/n/proxy/metrics", "proxy", False, True),
    ("POST", "/api/v1/namespaces/n/services/https:svc:443/proxy/x", "proxy", True, True),
    ("GET", "/api/v1/namespaces/n/pods/x:10250/proxy", "proxy", False, True),
    ("POST", "/api/v1/namespaces/x/pods", "create", True, False),
    ("PUT", "/api/v1/namespaces/x/pods/y", "update", True, False),
    ("PATCH", "/api/v1/namespaces/x/pods/y", "patch", True, False),
    ("DELETE", "/api/v1/namespaces/x/pods/y", "delete", True, False),
    ("DELETE", "/api/v1/namespaces/x/pods", "deletecollection", True, False),
    ("DELETE", "/api/v1/namespaces/x", "delete", True, False),
    ("GET", "/version", "other", False, False),
    ("GET", "/", "other", False, False),
    ("GET", "/api", "other", False, False),
    ("GET", "/apis/apps/v1", "other", False, False),
    ("POST", "/", "other", True, False),
]


@pytest.mark.parametrize(("method", "rest", "verb", "mutation", "long"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_classes(method: str, rest: str, verb: str, mutation: bool, long: bool) -> None:
    kind = classify(method.encode(), rest.encode())
    assert (kind.verb, kind.is_mutation, kind.is_long_running) == (verb, mutation, long)
    assert kind.verb in VERBS


@pytest.mark.parametrize(
    "rest",
    [
        "/api/v1/namespaces/x/pods/y/exec?command=ls",
        "/api/v1/namespaces/x/pods/y/%65xec?command=ls",
        "/api/v1/nodes/n/proxy/exec/x/y/c",
        "/apis/subresources.kubevirt.io/v1/namespaces/x/virtualmachineinstances/y/console",
        "/version",
    ],
)
def test_an_upgrade_is_never_sent_twice(rest: str) -> None:
    kind = classify(b"GET", rest.encode(), is_upgrade=True)
    assert kind.is_mutation
    assert kind.is_long_running
    assert kind.stream_class is StreamClass.INTERACTIVE


def test_a_watch_over_websocket_is_a_watch() -> None:
    kind = classify(b"GET", b"/api/v1/pods?watch=1", is_upgrade=True)
    assert (kind.verb, kind.is_mutation, kind.is_long_running) == ("watch", False, True)


def test_sessions_are_interactive() -> None:
    assert classify(b"POST", b"/api/v1/namespaces/x/pods/y/exec").stream_class is StreamClass.INTERACTIVE
    assert classify(b"GET", b"/api/v1/pods").stream_class is StreamClass.NORMAL
