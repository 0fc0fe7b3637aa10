"""proto/compressor.py: what the agent makes of a body."""

import os

import pytest
from backports import zstd

from proto.compression import BLOCK_HEADER, BLOCK_MAX_BYTES, Form
from proto.compressor import Compressor
from proto.limits import Limits
from tests.proto import bodies

WINDOW = Limits().window_bytes


def headers(blocks: list[bytes]) -> list[tuple[int, int, int]]:
    """(form, size, length) of each, which must be all there is."""
    found = []
    for block in blocks:
        word, length = BLOCK_HEADER.unpack_from(block)
        assert len(block) == BLOCK_HEADER.size + length
        found.append((word >> 24, word & 0xFFFFFF, length))
    return found


def test_every_piece_leaves_whole_so_that_no_event_waits() -> None:
    compressor = Compressor(WINDOW)
    for number in range(20):
        event = bodies.event(number)
        assert sum(size for _, size, _ in headers(list(compressor.encode(event)))) == len(event)


def test_events_of_5_kb_take_less_than_a_sixth() -> None:
    compressor = Compressor(WINDOW)
    events = [bodies.event(number) for number in range(200)]
    wire = sum(len(block) for event in events for block in compressor.encode(event))
    assert wire <= 0.15 * sum(map(len, events))


def test_a_list_takes_less_than_an_eighth() -> None:
    body = bodies.pod_list(2_000_000)
    compressor = Compressor(WINDOW)
    wire = sum(len(block) for at in range(0, len(body), 60_000) for block in compressor.encode(body[at : at + 60_000]))
    assert wire * 8 <= len(body)


def test_only_what_shrinks_is_compressed() -> None:
    noise = os.urandom(1000)
    assert headers(list(Compressor(WINDOW).encode(noise))) == [(Form.STORED, 1000, 1000)]
    assert headers(list(Compressor(WINDOW).encode(b"x" * 60))) == [(Form.STORED, 60, 60)]
    assert list(Compressor(WINDOW).encode(b"")) == []


def test_pieces_up_to_32_kib_refer_to_what_went_before() -> None:
    compressor = Compressor(WINDOW)
    noise = os.urandom(8000)
    first, second, big = (list(compressor.encode(piece)) for piece in (noise, noise, noise * 5))
    assert headers(first) == [(Form.STORED, 8000, 8000)]
    assert headers(second)[0][0] == Form.ZSTD_AFTER_HISTORY
    assert len(second[0]) < 100
    assert headers(big)[0][0] == Form.ZSTD


@pytest.mark.parametrize("window", [WINDOW, 16 * 1024, 2048, 20])
def test_a_block_takes_half_a_window_at_most(window: int) -> None:
    """Else the receiver could wait for the rest of a block, and the sender for credit for it."""
    for body in (os.urandom(500_000 if window > 20 else 500), b"x" * 300_000 if window > 20 else b"x" * 300):
        blocks = list(Compressor(window).encode(body))
        assert max(map(len, blocks)) <= window // 2
        assert max(size for _, size, _ in headers(blocks)) <= BLOCK_MAX_BYTES
        assert sum(size for _, size, _ in headers(blocks)) == len(body)


@pytest.mark.parametrize(("is_near", "least"), [(False, 12), (True, 3)])
def test_what_comes_out_short_is_one_block_however_small_the_window_is(is_near: bool, least: int) -> None:
    """Each block is a write at the hub's client; 128 KiB is what one read of the API server's connection brings."""
    body = bodies.pod_list(BLOCK_MAX_BYTES)[:BLOCK_MAX_BYTES]
    compressor = Compressor(Limits().near_window_bytes, is_near=is_near)
    for _ in range(3):
        [(form, size, length)] = headers(list(compressor.encode(body)))
        assert (form, size) == (Form.ZSTD, BLOCK_MAX_BYTES)
        assert length * least < size


@pytest.mark.parametrize("is_near", [False, True])
def test_a_crowded_hub_gets_no_block_that_decodes_to_more_than_half_its_window(is_near: bool) -> None:
    """What one decodes to waits there as a whole, where a client does not read."""
    limits = Limits()
    window = limits.crowded_window_bytes
    assert window < limits.near_window_bytes
    blocks = list(Compressor(window, is_near=is_near).encode(b"x" * 300_000))
    assert max(size for _, size, _ in headers(blocks)) <= window // 2


def test_a_body_that_once_did_not_come_out_short_is_not_tried_in_longer_pieces_again() -> None:
    most = Limits().near_window_bytes // 2 - BLOCK_HEADER.size
    compressor, noise = Compressor(Limits().near_window_bytes), os.urandom(100_000)
    assert [size for _, size, _ in headers(list(compressor.encode(noise)))] == [most, 100_000 - most]
    shrinks = b"x" * BLOCK_MAX_BYTES
    assert [size for _, size, _ in headers(list(compressor.encode(shrinks)))] == [
        most,
        most,
        BLOCK_MAX_BYTES - 2 * most,
    ]


def test_to_a_hub_that_is_near_a_body_is_packed_lightly() -> None:
    body, wire = bodies.pod_list(500_000), {}
    for is_near in (False, True):
        compressor = Compressor(WINDOW, is_near=is_near)
        pieces = [body[at : at + 60_000] for at in range(0, len(body), 60_000)] + [bodies.event(1), bodies.event(2)]
        wire[is_near] = sum(len(block) for piece in pieces for block in compressor.encode(piece))
    assert 1.3 * wire[False] < wire[True] < 0.3 * len(body)


def test_another_implementation_reads_it_by_the_specification() -> None:
    compressor = Compressor(WINDOW)
    events = [bodies.event(number) for number in range(30)]
    wire = b"".join(block for event in events for block in compressor.encode(event))
    body = b""
    for frame, known, size in bodies.frames_of(wire):
        prefix = body[-known:] if known else b""
        stored = (known << 3).to_bytes(3, "little") + prefix if known else b""
        decoded = zstd.decompress(frame[:9] + stored + frame[9:])
        assert len(decoded) == known + size
        body += decoded[known:]
    assert body == b"".join(events)
