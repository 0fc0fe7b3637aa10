import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import headers

NAMES = [b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"]


@pytest.mark.parametrize("name", [*NAMES, b"Connection", b"TE", b"Proxy-Authorization", b"proxy-authenticate"])
def test_hop_by_hop_in_any_case(name: bytes) -> None:
    assert headers.is_hop_by_hop(name)


def test_end_to_end_stays() -> None:
    kept = [(b"accept", b"*/*"), (b"content-length", b"3"), (b"te-st", b"x")]
    assert headers.strip_hop_by_hop([(b"te", b"trailers"), *kept, (b"Upgrade", b"x")]) == kept


@pytest.mark.parametrize(
    "listing",
    [b"close, X-A", b"x-a,x-b", b"keep-alive,\tX-A", b"X-A ", b",,X-a,,", b"close X-A"],
)
def test_what_connection_lists_is_removed(listing: bytes) -> None:
    left = headers.strip_hop_by_hop([(b"Connection", listing), (b"x-a", b"1"), (b"X-A", b"2"), (b"y", b"3")])
    assert left == [(b"y", b"3")]


def test_several_connection_fields_count_together() -> None:
    fields = [(b"connection", b"a"), (b"a", b"1"), (b"CONNECTION", b"b"), (b"b", b"2"), (b"c", b"3")]
    assert headers.strip_hop_by_hop(fields) == [(b"c", b"3")]
    assert headers.connection_tokens([b"A, b", b"C\td"]) == {b"a", b"b", b"c", b"d"}


@pytest.mark.parametrize(
    "name",
    [
        b"Impersonate-User",
        b"impersonate-group",
        b"IMPERSONATE-EXTRA-x",
        b"impersonate_user",
        b"Impersonate_Uid",
        b"impersonate-anything-new",
        b"x-remote-user",
        b"X_Remote_Group",
        b"Authorization",
        b"proxy_authorization",
        b"cookie",
        b"X-Forwarded-User",
        b"forwarded",
        b"x-real-ip",
        b"Impersonate-User ",
        b"x-auth-request-user",
    ],
)
def test_identity_in_any_spelling(name: bytes) -> None:
    assert headers.is_identity(name)


@pytest.mark.parametrize("name", [b"accept", b"x-request-id", b"impersonated", b"kubectl-command", b"content-type"])
def test_other_fields_are_no_identity(name: bytes) -> None:
    assert not headers.is_identity(name)


@pytest.mark.parametrize("name", [b"", b"A", b"a b", b"a:", b"a\r", b"a\0", b"\xc3\xa9", b"a\n"])
def test_invalid_names(name: bytes) -> None:
    assert not headers.valid_name(name)
    assert headers.fault([(b"ok", b"x"), (name, b"x")]) is not None


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\0", b"\x0b", b"\x7f", b"a\n"])
def test_invalid_values(value: bytes) -> None:
    assert not headers.valid_value(value)
    assert headers.fault([(b"ok", b"x"), (b"name", value)]) is not None


def test_valid_fields() -> None:
    assert headers.valid_name(b"x-kubernetes-pf-flowschema-uid")
    assert headers.valid_value(b"text/html; q=0.5\tx \xff")
    assert headers.valid_value(b"")
    assert not headers.valid_value(b" padded")
    assert headers.fault([(b"a", b""), (b"b", b"\xe2\x82\xac")]) is None
    assert headers.fault(()) is None
    assert headers.is_token(b"GET")
    assert not headers.is_token(b"GE T")


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=6))
def test_fault_agrees_with_the_single_checks(fields: list[tuple[bytes, bytes]]) -> None:
    clean = all(headers.valid_name(name) and not value.translate(None, headers._VALUE_CHARS) for name, value in fields)
    assert (headers.fault(fields) is None) == clean


@given(st.sets(st.sampled_from([b"impersonate-user", b"authorization", b"x-a", b"accept"])))
def test_listing_a_field_never_lets_another_through(listed: set[bytes]) -> None:
    fields = [(b"connection", b", ".join(sorted(listed))), *((name, b"1") for name in (b"accept", b"x-a"))]
    assert {name for name, _ in headers.strip_hop_by_hop(fields)} == {b"accept", b"x-a"} - listed
