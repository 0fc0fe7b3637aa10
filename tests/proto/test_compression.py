"""proto/compression.py: what both halves of the coding share."""

import sys

import pytest

from proto import compression
from proto.compression import HISTORY_BYTES, Form, Histories
from proto.messages import Ext


def test_a_block_header_is_a_form_three_bytes_of_size_and_a_length() -> None:
    assert compression.BLOCK_HEADER.pack(Form.ZSTD << 24 | 0x01FFFF, 7) == b"\x01\x01\xff\xff\x00\x00\x00\x07"


@pytest.mark.parametrize(
    ("ext", "spoken"),
    [({}, False), ({"zstd": 0}, False), ({"zstd": 1}, True), ({"zstd": 2}, True), ({"zstd": "1"}, False)],
)
def test_a_peer_that_says_nothing_or_nonsense_gets_nothing_compressed(ext: Ext, spoken: bool) -> None:
    assert compression.is_spoken(ext) is spoken


def test_the_history_is_the_last_of_the_body() -> None:
    history, body = bytearray(), b""
    for number in range(200):
        piece = bytes([number]) * (number * 37 % 700 + 1)
        body += piece
        compression.extend(history, memoryview(piece))
        assert history == body[-HISTORY_BYTES:]
    compression.extend(history, b"x" * (HISTORY_BYTES + 1))
    assert history == b"x" * HISTORY_BYTES


def test_a_history_takes_its_16_kib_and_an_event() -> None:
    history = bytearray()
    for number in range(1000):
        compression.extend(history, bytes(number % 5000))
    assert sys.getsizeof(history) < 1.5 * HISTORY_BYTES


def test_their_number_is_bounded_in_bytes() -> None:
    histories = Histories(2 * HISTORY_BYTES + 1)
    assert histories.is_on
    histories.bodies = 1
    assert histories.has_room
    histories.bodies = 2
    assert not histories.has_room
    assert not Histories(0).is_on
    assert not Histories(0).has_room
