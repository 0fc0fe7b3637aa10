"""hub/proxy/framed.py: where a word of ours may follow what the cluster has sent."""

from __future__ import annotations

import itertools
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.proxy.framed import FRAMES_MAX, Frames, SpdyFrames, WebSocketFrames, frames_of
from proto import websocket
from proto.messages import HttpHead
from proto.websocket import INTERNAL_ERROR
from tests.hub.proxy.fakes import request

TEXT = "riata: why"
CLOSE = b"\x88\x0c\x03\xf3riata: why"


def ws_frame(size: int, opcode: int = websocket.BINARY, *, is_final: bool = True) -> bytes:
    whole = websocket.frame(opcode, bytes(size))
    return whole if is_final else bytes((whole[0] & 0x7F,)) + whole[1:]


def spdy_data(stream: int, size: int) -> bytes:
    return struct.pack("!II", stream, size) + b"\xff" * size


def spdy_control(kind: int, size: int) -> bytes:
    return struct.pack("!HHI", 0x8003, kind, size) + b"\xff" * size


SIZES = st.one_of(st.integers(0, 130), st.sampled_from([65_535, 65_536, 70_000]))
WS_FRAMES = st.builds(ws_frame, SIZES, st.sampled_from([websocket.TEXT, websocket.BINARY, websocket.CONTINUATION]))
SPDY_FRAMES = st.one_of(
    st.builds(spdy_data, st.integers(2, 2**31 - 1), SIZES),
    st.builds(spdy_control, st.integers(1, 9), st.integers(0, 200)),
)


def check(frames: Frames, parts: list[bytes], cuts: list[int]) -> None:
    """In whatever pieces they come, it is known how much has come of the last frame."""
    raw = b"".join(parts)
    starts = [0, *itertools.accumulate(len(part) for part in parts)]
    edges = [0, *sorted(cuts), len(raw)]
    for begin, stop in itertools.pairwise(edges):
        frames.feed(memoryview(raw)[begin:stop])
        last = max(start for start in starts if start <= stop)
        assert frames.unfinished == stop - last


@given(st.lists(WS_FRAMES, max_size=5), st.data())
def test_websocket(parts: list[bytes], data: st.DataObject) -> None:
    size = sum(len(part) for part in parts)
    near = [end + shift for end in itertools.accumulate(len(part) for part in parts) for shift in range(12)]
    where = st.one_of(st.integers(0, size), st.sampled_from([at for at in near if at <= size] or [0]))
    check(WebSocketFrames(), parts, data.draw(st.lists(where, max_size=8)))


@given(st.lists(SPDY_FRAMES, max_size=5), st.data())
def test_spdy(parts: list[bytes], data: st.DataObject) -> None:
    size = sum(len(part) for part in parts)
    check(SpdyFrames(), parts, data.draw(st.lists(st.integers(0, size), max_size=8)))


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_nonsense_is_taken_and_never_fails(pieces: list[bytes]) -> None:
    for frames in (WebSocketFrames(), SpdyFrames()):
        for piece in pieces:
            frames.feed(piece)


def test_the_words() -> None:
    assert WebSocketFrames().last_words(INTERNAL_ERROR, TEXT) == CLOSE
    raw = SpdyFrames().last_words(INTERNAL_ERROR, TEXT)
    stream, flags_and_size = struct.unpack("!II", raw[:8])
    assert (stream, flags_and_size >> 24, flags_and_size & 0xFFFFFF) == (1, 1, len(raw) - 8)
    status = json.loads(raw[8:])
    assert (status["kind"], status["status"], status["message"]) == ("Status", "Failure", TEXT)
    assert status["reason"] != "NonZeroExitCode"  # that one is the program's


@pytest.mark.parametrize(
    "raw",
    [
        b"\x82\x80abcd",  # masked
        b"\xc1\x00",  # a bit of an extension
        b"\x88\x00",  # a Close has been sent
        b"\x88\x02\x03\xe8",
        b"\x82\x7f" + b"\xff" * 8,
        b"\x82\x00" * (FRAMES_MAX + 1),
    ],
)
def test_where_nothing_may_be_said_over_websocket(raw: bytes) -> None:
    frames = WebSocketFrames()
    frames.feed(raw)
    frames.feed(ws_frame(3) if raw[0] == 0x88 else bytes(100_000))
    assert frames.unfinished > 50_000 or not frames.last_words(INTERNAL_ERROR, TEXT)


@pytest.mark.parametrize("raw", [b"\x80\x02\x00\x01" + bytes(4), spdy_data(1, 0), spdy_data(3, 0) * (FRAMES_MAX + 1)])
def test_where_nothing_may_be_said_over_spdy(raw: bytes) -> None:
    frames = SpdyFrames()
    frames.feed(raw)
    assert frames.unfinished or not frames.last_words(INTERNAL_ERROR, TEXT)


def test_events_are_messages_and_control_frames_are_none() -> None:
    frames = WebSocketFrames()
    assert frames.is_between_events
    frames.feed(ws_frame(5, websocket.TEXT, is_final=False))
    assert not frames.is_between_events
    frames.feed(ws_frame(0, websocket.PING))
    assert not frames.is_between_events
    assert frames.last_words(INTERNAL_ERROR, TEXT)
    frames.feed(ws_frame(5, websocket.CONTINUATION))
    assert frames.is_between_events


WS = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1")
V4 = (b"x-stream-protocol-version", b"v4.channel.k8s.io")
FORWARD = (b"x-stream-protocol-version", b"portforward.k8s.io")


@pytest.mark.parametrize(
    ("lines", "fields", "kind"),
    [
        (WS, (), WebSocketFrames),
        (SPDY, (V4,), SpdyFrames),
        (SPDY, (FORWARD,), type(None)),  # kubectl says itself that it lost the connection
        (SPDY, (), type(None)),
    ],
)
def test_which_follower(lines: tuple[str, ...], fields: tuple[tuple[bytes, bytes], ...], kind: type) -> None:
    asked = request("GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1", *lines)
    assert type(frames_of(asked, HttpHead(status=101, headers=fields))) is kind
