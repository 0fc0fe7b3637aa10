"""hub/proxy/path.py: which cluster, and what is left for it (facts/security.md §2.C)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import errors
from hub.proxy.path import Place, split

NAMED = [
    (b"/k8s/clusters/a", Place("a", b"/")),
    (b"/k8s/clusters/a/", Place("a", b"/")),
    (b"/k8s/clusters/a?x", Place("a", b"/?x")),
    (b"/k8s/clusters/c-1/api/v1", Place("c-1", b"/api/v1")),
    (b"/k8s/clusters/c-10/api", Place("c-10", b"/api")),
    (b"/k8s/clusters/a/%252e%252e/x", Place("a", b"/%252e%252e/x")),
    (b"/k8s/clusters/a/x%2fy%0a?q=%2F..%00", Place("a", b"/x%2fy%0a?q=%2F..%00")),
    (b"/k8s/clusters/a/api//v1\\x;y", Place("a", b"/api//v1\\x;y")),
    (b"/k8s/clusters/" + b"a" * 63 + b"/x", Place("a" * 63, b"/x")),
]


@pytest.mark.parametrize(("target", "place"), NAMED, ids=range(len(NAMED)))
def test_named(target: bytes, place: Place) -> None:
    assert split(target) == place


MALFORMED = [
    b"/k8s/clusters/",
    b"/k8s/clusters//api",
    b"/k8s/clusters/C-1/api",
    b"/k8s/clusters/c-1./api",
    b"/k8s/clusters/1a/api",
    b"/k8s/clusters/-a/api",
    b"/k8s/clusters/a_b/api",
    b"/k8s/clusters/" + b"a" * 64,
    b"/k8s/clusters/a%2fb",
    b"/k8s/clusters/a%5cb",
    b"/k8s/clusters/a\\b",
    b"/k8s/clusters/a;x=1/api",
    b"/k8s/clusters/a%3bx/api",
    b"/k8s/clusters/a%00/api",
    b"/k8s/clusters/a%0d%0a/api",
    b"/k8s/clusters/a//api",
    b"/k8s/clusters/../b/api",
    b"/k8s/clusters/a/../b/api",
    b"/k8s/clusters/a/./api",
    b"/k8s/clusters/a/api/..",
    b"/k8s/clusters/a/%2e%2e/b",
    b"/k8s/clusters/a/%2E./b",
    b"/k8s/clusters/a/.%2e/b",
    b"/k8s/clusters/a/x%2f..%2fy",
    b"/k8s/clusters/a/%zz",
    b"/k8s/clusters/a/x#y",
]


@pytest.mark.parametrize("target", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(target: bytes) -> None:
    with pytest.raises(errors.BadRequest):
        split(target)


@pytest.mark.parametrize("target", [b"/k8s/", b"/k8s/cluster/a", b"/k8s/clustersx/a"])
def test_nothing_else_lives_there(target: bytes) -> None:
    with pytest.raises(errors.NotFound):
        split(target)


PIECES = st.sampled_from(
    [b"/", b"//", b"..", b".", b"%2e", b"%2f", b"a", b"b", b"c-1", b"?", b"#", b"\\", b";", b"%00", b"k8s", b"clusters"]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_what_is_authorised_is_what_is_forwarded(tail: bytes) -> None:
    """C8: name and remainder together are the target, byte for byte."""
    target = b"/k8s/clusters/" + tail
    try:
        place = split(target)
    except errors.BadRequest:
        return
    prefix = b"/k8s/clusters/" + place.cluster.encode()
    suffix = target.removeprefix(prefix)
    assert target.startswith(prefix)
    assert place.rest == (suffix if suffix.startswith(b"/") else b"/" + suffix)
    assert b"/" not in place.cluster.encode()
