"""proto/decompressor.py: what the hub makes of an agent's blocks, whatever they are."""

import contextlib
import os
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import errors
from proto.compression import BLOCK_MAX_BYTES, HISTORY_BYTES, Form
from proto.compressor import Compressor
from proto.decompressor import Decompressor
from tests.proto import bodies
from tests.proto.bodies import block, runs

WINDOW = 256 * 1024


def encoded(pieces: Iterable[bytes], window: int = WINDOW, *, is_near: bool = False) -> bytes:
    compressor = Compressor(window, is_near=is_near)
    return b"".join(each for piece in pieces for each in compressor.encode(piece))


def decoded(wire: bytes) -> bytes:
    decompressor = Decompressor()
    decompressor.feed(wire)
    return drain(decompressor)


def drain(decompressor: Decompressor) -> bytes:
    body = b""
    while decompressor.is_ready():
        before = decompressor.pending_bytes
        piece = decompressor.next()
        assert piece is not None
        assert 0 < len(piece.data) <= BLOCK_MAX_BYTES
        assert piece.wire_bytes == before - decompressor.pending_bytes
        body += piece.data
    assert decompressor.next() is None
    return body


PIECE = st.one_of(
    st.binary(max_size=300),
    st.builds(bodies.event, st.integers(0, 50)),
    st.builds(lambda count: b"ab" * count, st.integers(0, 90_000)),
    st.builds(lambda at, count: bodies.pod_list(count)[at:], st.integers(0, 900), st.integers(0, 60_000)),
)


@given(
    pieces=st.lists(PIECE, max_size=8),
    cuts=st.lists(st.integers(1, 40_000), max_size=12),
    window=st.sampled_from([64, 4096, 128 * 1024, WINDOW]),
    is_near=st.booleans(),
)
def test_whatever_the_pieces_and_however_they_are_cut(
    pieces: list[bytes], cuts: list[int], window: int, is_near: bool
) -> None:
    if window == 64:
        pieces = [piece[:2000] for piece in pieces]
    wire = encoded(pieces, window, is_near=is_near)
    decompressor = Decompressor()
    body, at = b"", 0
    for cut in cuts:
        decompressor.feed(memoryview(wire)[at : at + cut])
        body += drain(decompressor)
        at += cut
    decompressor.feed(wire[at:])
    assert body + drain(decompressor) == b"".join(pieces)
    assert decompressor.pending_bytes == 0


@given(garbage=st.binary(max_size=2000), lead=st.booleans())
def test_garbage_is_data_that_waits_or_a_protocol_error(garbage: bytes, lead: bool) -> None:
    decompressor = Decompressor()
    decompressor.feed((encoded([bodies.event(1)]) if lead else b"") + garbage)
    try:
        drain(decompressor)
    except errors.ProtocolError:
        return
    assert decompressor.pending_bytes <= len(garbage)


@given(data=st.data())
def test_a_block_with_a_flipped_bit_decodes_to_its_announced_size_or_not_at_all(data: st.DataObject) -> None:
    wire = bytearray(encoded([bodies.event(1), bodies.event(2)]))
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(errors.ProtocolError):
        decoded(bytes(wire))


@pytest.mark.parametrize(
    "wire",
    [
        block(0, 0, b""),
        block(1, 100, b""),
        block(1, 0, b"x"),
        block(3, 4, b"abcd"),
        block(0, 4, b"abc"),
        block(1, BLOCK_MAX_BYTES + 1, runs(100)),
        block(1, 3, runs(3)),  # longer than what it decodes to
    ],
)
def test_an_illegal_header_is_refused_before_its_block_is_there(wire: bytes) -> None:
    decompressor = Decompressor()
    decompressor.feed(wire[:8])
    assert decompressor.is_ready()
    with pytest.raises(errors.ProtocolError):
        decompressor.next()


def test_a_block_that_decodes_to_more_or_less_than_announced_is_refused() -> None:
    assert decoded(block(1, 1000, runs(1000))) == b"x" * 1000
    for size in (999, 1001):
        with pytest.raises(errors.ProtocolError):
            decoded(block(1, size, runs(1000)))


def test_bytes_behind_the_last_zstd_block_and_a_missing_last_one_are_refused() -> None:
    for payload in (runs(1000) + b"more", runs(1000) + runs(1000), bytes([runs(1000)[0] & 0xFE]) + runs(1000)[1:]):
        with pytest.raises(errors.ProtocolError):
            decoded(block(1, 1000, payload))


def test_a_bomb_costs_one_block_at_a_time() -> None:
    """Twelve bytes that become 128 KiB, thousands of them: what is not asked for is not decoded."""
    decompressor = Decompressor()
    decompressor.feed(block(1, BLOCK_MAX_BYTES, runs(BLOCK_MAX_BYTES)) * 20_000)  # 2.6 GB
    tracemalloc.start()
    for _ in range(100):
        assert decompressor.next() is not None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * BLOCK_MAX_BYTES


def test_one_body_knows_nothing_of_another() -> None:
    """The same block in a body without that history is refused, or decodes to something of its own body."""
    secret, wire = os.urandom(4000), Compressor(WINDOW)
    list(wire.encode(secret))
    referring = b"".join(wire.encode(secret))
    assert referring[0] == Form.ZSTD_AFTER_HISTORY
    with pytest.raises(errors.ProtocolError):
        decoded(referring)
    other = os.urandom(4000)
    assert decoded(block(0, 4000, other) + referring) == other + other


def test_a_history_does_not_reach_further_back_than_16_kib() -> None:
    head, rest = os.urandom(1000), os.urandom(HISTORY_BYTES)
    wire = encoded([head, rest, head])
    assert decoded(wire) == head + rest + head
    assert len(wire) > 2000 + HISTORY_BYTES  # the second `head` found nothing to refer to
