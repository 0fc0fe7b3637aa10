import pytest

from proto import errors, frames
from proto.frames import FrameType


def test_the_header_is_eight_bytes_big_endian() -> None:
    assert frames.encode(FrameType.DATA, 1, 0x01020304, b"hi") == b"\x04\x01\x00\x02\x01\x02\x03\x04hi"
    assert frames.HEADER_BYTES == 8


def test_split_returns_what_encode_made() -> None:
    found = [(4, 1, 2, b"abc"), (7, 0, 0, bytes(8)), (0x80, 0xFF, 5, b"")]
    message = b"".join(frames.encode(kind, flags, stream, payload) for kind, flags, stream, payload in found)
    assert frames.split(message) == found


@pytest.mark.parametrize("message", [b"", b"\x04\x00\x00", frames.encode(4, 0, 1, b"abc")[:-1], bytes(9)])
def test_split_refuses_what_does_not_fill_its_message(message: bytes) -> None:
    with pytest.raises(errors.ProtocolError):
        frames.split(message)


def test_describe_names_the_frame_and_hides_its_payload() -> None:
    assert frames.describe(FrameType.DATA, 1, 6, 100) == "DATA stream=6 length=100 flags=0x1"
    assert frames.describe(0x80, 0, 0, 0) == "0x80 stream=0 length=0"


def test_the_packed_forms_agree() -> None:
    joined = frames.HEADER.pack(2, 1, 6, 8) + frames.OPEN_PREFIX.pack(1, 1, 262_144)
    assert frames.OPEN_FRAME.pack(2, 1, 6, 8, 1, 1, 262_144) == joined
    assert max(FrameType) < frames.EXTENSION_MIN


def test_count_reads_as_far_as_it_can() -> None:
    ping = frames.encode(FrameType.PING, 0, 0, bytes(8))
    assert [frames.count(message) for message in (b"", b"junk", ping, ping * 3, ping + ping[:9], bytes(80_000))] == [
        *(0, 0, 1, 3, 2, 1000)
    ]
