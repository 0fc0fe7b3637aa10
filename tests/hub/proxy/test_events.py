"""hub/proxy/events.py: where a watch may be cut."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.proxy.events import Boundary, JsonBoundary, ProtobufBoundary, boundary_of
from proto.messages import HttpHead


def feed(boundary: Boundary, raw: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(raw)]
    for start, stop in itertools.pairwise(edges):
        boundary.feed(memoryview(raw[start:stop]))


@given(st.lists(st.binary(max_size=30), max_size=5), st.binary(min_size=1, max_size=3), st.data())
def test_protobuf_frames(events: list[bytes], tail: bytes, data: st.DataObject) -> None:
    raw = b"".join(struct.pack("!I", len(event)) + event for event in events)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=6))
    boundary = ProtobufBoundary()
    feed(boundary, raw, cuts)
    assert boundary.is_between_events
    feed(boundary, tail, [])
    assert not boundary.is_between_events


def test_json_lines() -> None:
    boundary = JsonBoundary()
    assert boundary.is_between_events
    boundary.feed(memoryview(b'{"a":1}\n{"b"'))
    assert not boundary.is_between_events
    boundary.feed(memoryview(b":2}\n"))
    assert boundary.is_between_events


@pytest.mark.parametrize(
    ("status", "fields", "kind"),
    [
        (200, ((b"content-type", b"application/json"),), JsonBoundary),
        (200, ((b"content-type", b"application/json;stream=watch"),), JsonBoundary),
        (200, ((b"content-type", b"application/vnd.kubernetes.protobuf;stream=watch"),), ProtobufBoundary),
        (200, ((b"content-type", b"application/cbor-seq"),), type(None)),
        (200, ((b"content-type", b"application/json"), (b"content-encoding", b"gzip")), type(None)),
        (410, ((b"content-type", b"application/json"),), type(None)),
        (200, (), type(None)),
    ],
)
def test_which_follower(status: int, fields: tuple[tuple[bytes, bytes], ...], kind: type) -> None:
    assert type(boundary_of(HttpHead(status=status, headers=fields))) is kind
