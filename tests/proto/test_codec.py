"""Canonical, exact, bounded: what the decoder lets through, checked against another msgpack library."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codec, errors, limits, messages

HEADERS = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=80)), max_size=12).map(tuple)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20)
EXT = st.dictionaries(
    st.text(max_size=10),
    SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3),
    max_size=4,
)
REQUESTS = st.builds(
    messages.HttpRequest,
    method=st.text(min_size=1, max_size=16),
    path=st.binary(max_size=100),
    headers=HEADERS,
    upgrade=st.sampled_from(["", "websocket", "SPDY/3.1"]),
    ext=EXT,
)


def plain(message: messages.Wire) -> dict[str, Any]:
    """Return a request as the map that docs/protocol.md describes."""
    assert isinstance(message, messages.HttpRequest)
    fields: dict[str, Any] = {
        "method": message.method,
        "path": message.path,
        "headers": [list(each) for each in message.headers],
    }
    if message.upgrade:
        fields["upgrade"] = message.upgrade
    if message.ext:
        fields["ext"] = message.ext
    return fields


@settings(max_examples=150)
@given(REQUESTS)
def test_another_library_reads_and_writes_the_same_bytes(message: messages.HttpRequest) -> None:
    payload = codec.encode(message)
    assert codec.decode(messages.HttpRequest, payload) == message
    assert msgpack.unpackb(payload, strict_map_key=False) == plain(message)
    assert msgpack.packb(plain(message)) == payload


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused(payload: bytes) -> None:
    for kind in (messages.HttpRequest, messages.HttpHead, messages.Accepted, messages.AgentAuth):
        try:
            message = codec.decode(kind, payload)
        except errors.ProtocolError:
            continue
        assert codec.encode(message) == payload


@settings(max_examples=200)
@given(REQUESTS, st.data())
def test_what_is_accepted_reads_the_same_for_a_lenient_library(message: messages.HttpRequest, data: Any) -> None:
    """Differential: flip one byte; if we accept the result, an independent decoder sees the very same fields."""
    payload = bytearray(codec.encode(message))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        ours = codec.decode(messages.HttpRequest, bytes(payload))
    except errors.ProtocolError:
        return
    assert msgpack.unpackb(bytes(payload), strict_map_key=False) == plain(ours)


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


BASE = {"status": 200, "headers": []}
HOSTILE = {
    "length claim": b"\xdd\xff\xff\xff\xff",
    "map claim": b"\xdf\xff\xff\xff\xff",
    "bytes claim": b"\x81\xa6status\xc6\xff\xff\xff\xff",
    "empty": b"",
    "not a map": pack([1, 2]),
    "empty map": b"\x80",
    "depth": b"\x91" * 61_000,
    "depth in ext": b"\x83\xa6status\xcc\xc8\xa7headers\x90\xa3ext\x81\xa1a" + b"\x91" * 10_000 + b"\xc0",
    "two levels in ext": pack(BASE | {"ext": {"a": [[1]]}}),
    "amplification": b"\xdc\xee\xee" + b"\x80" * 0xEEEE,
    "unknown field": pack(BASE | {"surprise": 1}),
    "missing field": pack({"status": 200}),
    "integer key": b"\x83\xa6status\xcc\xc8\xa7headers\x90\x01\x01",
    "bytes key": b"\x82\xc4\x06status\xcc\xc8\xa7headers\x90",
    "duplicate key": b"\x83\xa6status\xcc\xc8\xa6status\xcc\xc9\xa7headers\x90",
    "duplicate key in ext": b"\x83\xa6status\xcc\xc8\xa7headers\x90\xa3ext\x82\xa1a\x01\xa1a\x02",
    "default sent": pack(BASE | {"ext": {}}),
    "field order": pack({"headers": [], "status": 200}),
    "long integer": b"\x82\xa6status\xcd\x00\xc8\xa7headers\x90",
    "long text header": b"\x82\xd9\x06status\xcc\xc8\xa7headers\x90",
    "trailing bytes": pack(BASE) + b"\x00",
    "two maps": pack(BASE) * 2,
    "float": pack(BASE | {"status": 200.0}),
    "nan in ext": pack(BASE | {"ext": {"a": float("nan")}}),
    "float in ext": pack(BASE | {"ext": {"a": 1.5}}),
    "bytes in ext": pack(BASE | {"ext": {"a": b"x"}}),
    "timestamp": pack(BASE | {"ext": {"a": msgpack.Timestamp(1)}}),
    "extension type": pack(BASE | {"ext": {"a": msgpack.ExtType(5, b"x")}}),
    "bool for int": pack(BASE | {"status": True}),
    "text for bytes": pack(BASE | {"headers": [["a", "b"]]}),
    "three in a field": pack(BASE | {"headers": [[b"a", b"b", b"c"]]}),
    "bad utf-8": b"\x83\xa6status\xcc\xc8\xa7headers\x90\xa3ext\x81\xa1\xff\x01",
    "surrogate": b"\x83\xa6status\xcc\xc8\xa7headers\x90\xa3ext\x81\xa3\xed\xa0\x80\x01",
    "status range": pack({"status": 999, "headers": []}),
    "huge integer": pack({"status": 2**64 - 1, "headers": []}),
    "too many headers": pack({"status": 200, "headers": [[b"", b""]] * 1025}),
    "reserved byte": b"\xc1",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_hostile_payloads_are_protocol_errors(payload: bytes) -> None:
    with pytest.raises(errors.ProtocolError) as caught:
        codec.decode(messages.HttpHead, payload)
    assert "HttpHead" in caught.value.text


def test_the_size_limit_holds_both_ways() -> None:
    with pytest.raises(errors.MessageTooBig):
        codec.encode(messages.HttpRequest(method="GET", path=b"/" * limits.CONTROL_MAX_BYTES, headers=()))
    with pytest.raises(errors.ProtocolError) as caught:
        codec.decode(messages.Accepted, bytes(limits.CONTROL_MAX_BYTES + 1))
    assert caught.value.code is errors.Code.TOO_BIG


def test_unknown_keys_of_ext_pass() -> None:
    payload = pack({"ext": {"from-the-future": [1, "x", None], "more": {"a": True}}})
    assert codec.decode(messages.Accepted, payload).ext == {"from-the-future": [1, "x", None], "more": {"a": True}}


def test_what_cannot_be_encoded_is_our_bug() -> None:
    with pytest.raises(errors.UsageError):
        codec.encode(messages.Accepted(ext={"a": object()}))  # type: ignore[dict-item] # a wrong type is the point
    with pytest.raises(errors.UsageError):
        codec.encode(messages.Accepted(ext={"a": "\ud800"}))


def test_errors_do_not_quote_the_input() -> None:
    with pytest.raises(errors.ProtocolError) as caught:
        codec.decode(messages.AgentAuth, pack({"credential": "riataagent_secret"}))
    assert "secret" not in str(caught.value)
