import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import target


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/api/v1/namespaces/kube-system/pods?limit=500&continue=abc%3D",
        b"/apis/metrics.k8s.io/v1beta1",
        b"/api/v1/namespaces/a/services/https:svc:443/proxy/x/..y/z..",
        b"/a/%252e%252e/b",
        b"/a/...",
        b"/a/.hidden",
        b"/x?path=/../..",
        b"/x?q=%2e%2e",
        b"//api",
        b"/a%2fb",
        b"/a%00b",
        b"/~!$&'()*+,;=:@-._",
    ],
)
def test_valid_targets(path: bytes) -> None:
    assert target.fault(path) is None
    assert target.is_valid(path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"api",
        b"*",
        b"http://evil/api",
        b"/a b",
        b"/a#b",
        b"/a\r\nb",
        b"/a\0",
        b"/\xc3\xa9",
        b"/\x7f",
        b"/a%",
        b"/a%2",
        b"/a%zz",
        b"/a?x=%g0",
        b"/..",
        b"/.",
        b"/a/../b",
        b"/a/./b",
        b"/a/..",
        b"/a/%2e%2e/b",
        b"/a/%2E.",
        b"/a/.%2e/b",
        b"/a/%2e",
        b"/a/..%2fb",
        b"/a%2f..%2fb",
        b"/a%2F%2e%2e",
        b"/a\\..\\b",
        b"/a%5c..",
        b"/a/..?x=1",
    ],
)
def test_refused_targets(path: bytes) -> None:
    assert target.fault(path) is not None


@given(st.lists(st.sampled_from([b"/", b".", b"%2e", b"%2F", b"a", b"%5C", b"\\", b"?", b"%41"]), max_size=12))
def test_no_accepted_path_has_a_dot_segment_after_decoding(parts: list[bytes]) -> None:
    path = b"/" + b"".join(parts)
    if target.fault(path) is None:
        decoded = unquote_to_bytes(path.partition(b"?")[0])
        assert not {b".", b".."} & set(re.split(rb"[/\\]", decoded))
