"""proto/websocket.py against the table of RFC 6455 §5 and, for what is good, against the `websockets` library."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Side
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from proto import websocket
from proto.websocket import Control, FrameReader, WebSocketError

MASK = b"\x01\x02\x03\x04"


def read(raw: bytes, *, is_server: bool = False, cuts: tuple[int, ...] = (), most: int = 1000) -> list[bytes | Control]:
    """What a reader makes of `raw`, fed in pieces that end at `cuts`."""
    found: list[bytes | Control] = []
    reader = FrameReader(is_server=is_server, message_max=most)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for start, end in itertools.pairwise(edges):
        reader.feed(memoryview(raw)[start:end], found.append, found.append)
    return found


def refusal(raw: bytes, *, is_server: bool = False, most: int = 1000) -> int:
    with pytest.raises(WebSocketError) as caught:
        read(raw, is_server=is_server, most=most)
    assert caught.value.text
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("mask", [None, MASK, bytes(4)])
def test_what_is_framed_is_read(size: int, mask: bytes | None) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    raw = websocket.frame(websocket.BINARY, payload, mask)
    assert read(raw, is_server=mask is not None, most=size) == [payload]


BOTH = st.booleans()


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 1700), max_size=12), BOTH)
def test_the_library_reads_ours_and_we_read_the_librarys(sent: list[bytes], cuts: list[int], is_server: bool) -> None:
    """However the wire cuts the bytes. `is_server`: we are the server."""
    theirs = ClientProtocol(parse_uri("ws://x"), state=OPEN) if is_server else ServerProtocol(state=OPEN)
    raw = b""
    for message in sent:
        theirs.send_binary(message)
        raw += b"".join(theirs.data_to_send())
    assert read(raw, is_server=is_server, cuts=tuple(cuts)) == sent
    assert theirs.side is (Side.CLIENT if is_server else Side.SERVER)
    for message in sent:
        theirs.receive_data(websocket.frame(websocket.BINARY, message, None if is_server else MASK))
    assert [event.data for event in theirs.events_received() if isinstance(event, Frame)] == sent


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_are_read_or_refused_alike_however_they_are_cut(raw: bytes, cuts: list[int]) -> None:
    def outcome(cuts: tuple[int, ...]) -> object:
        try:
            return read(raw, cuts=cuts, most=200)
        except WebSocketError as error:
            return error.code

    assert outcome(tuple(cuts)) == outcome(())


def test_a_message_in_parts_with_a_ping_between_them() -> None:
    raw = b"\x02\x02ab" + b"\x89\x01p" + b"\x00\x00" + b"\x80\x02cd" + b"\x82\x01x"
    assert read(raw) == [Control(websocket.PING, b"p"), b"abcd", b"x"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xc2\x00", 1002),
        (b"\xa2\x00", 1002),
        (b"\x92\x00", 1002),
        (b"\x83\x00", 1002),
        (b"\x8b\x00", 1002),
        (b"\x81\x01a", 1003),
        (b"\x01\x01a", 1003),
        (b"\x80\x00", 1002),
        (b"\x02\x00\x82\x00", 1002),
        (b"\x89\x7e\x00\x7e", 1002),
        (b"\x09\x00", 1002),
        (b"\x82\x81\x00\x00\x00\x00a", 1002),
        (b"\x82\x7e\x00\x7d", 1002),
        (b"\x82\x7f" + bytes(6) + b"\xff\xff", 1002),
        (b"\x82\x7f\x80" + bytes(7), 1009),
        (b"\x82\x7e\x03\xe9", 1009),
        (b"\x02\x7e\x03\xe8" + bytes(1000) + b"\x80\x01", 1009),
    ],
    ids=[
        "rsv1", "rsv2", "rsv3", "opcode 3", "opcode 11", "text", "text in parts", "continuation of nothing",
        "message inside a message", "long ping", "ping in parts", "masked by a server", "16 bits for 125",
        "64 bits for 65535", "2^63", "one too many", "one too many in parts",
    ],
)  # fmt: skip
def test_what_no_peer_may_send(raw: bytes, code: int) -> None:
    assert refusal(raw) == code


def test_the_parts_of_a_message_are_bounded_in_number() -> None:
    """Each is an object, and an empty one does not count in bytes."""
    most = websocket.PARTS_MAX
    assert read(b"\x02\x00" + b"\x00\x01a" * (most - 2) + b"\x80\x01z") == [b"a" * (most - 2) + b"z"]
    assert refusal(b"\x02\x00" + b"\x00\x00" * most) == 1002
    assert refusal(b"\x02\x00" + b"\x00\x00" * (most - 1) + b"\x80\x01z") == 1002


def test_how_much_is_under_way() -> None:
    reader = FrameReader(is_server=False, message_max=100_000)
    found: list[bytes] = []
    for piece, under_way in ((b"\x82", 2), (b"\x7e", 4), (b"\x13\x88ab", 5004), (bytes(4998), 0), (b"\x82\x01", 3)):
        reader.feed(memoryview(piece), found.append, print)
        assert reader.under_way == under_way
    assert [len(each) for each in found] == [5000]


def test_a_client_must_mask() -> None:
    assert refusal(b"\x82\x01a", is_server=True) == 1002


def test_a_giant_is_refused_by_its_header() -> None:
    assert refusal(b"\x82\x7f" + (1 << 40).to_bytes(8, "big")) == 1009


def test_a_limit_may_be_raised_between_messages() -> None:
    found: list[bytes] = []
    reader = FrameReader(is_server=False, message_max=1)
    reader.feed(memoryview(b"\x82\x01a"), found.append, print)
    reader.message_max = 2
    reader.feed(memoryview(b"\x82\x02bc"), found.append, print)
    assert found == [b"a", b"bc"]


@pytest.mark.parametrize(("payload", "said"), [(b"", (1005, "")), (b"\x03\xe8bye", (1000, "bye"))])
def test_goodbyes(payload: bytes, said: tuple[int, str]) -> None:
    assert websocket.read_close(payload) == said


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xed", b"\x03\xee", b"\x00\x00", b"\xff\xff", b"\x03\xe8\xff\xfe"])
def test_goodbyes_that_nobody_may_send(payload: bytes) -> None:
    with pytest.raises(WebSocketError):
        websocket.read_close(payload)


def test_a_long_reason_is_cut_to_what_a_control_frame_holds() -> None:
    frame = Frame(Opcode.CLOSE, websocket.close_payload(1002, "x" * 500))
    frame.check()
    assert len(frame.data) == 125
