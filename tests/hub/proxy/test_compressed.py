"""hub/proxy/compressed.py: how fast a compressed body is decoded."""

from __future__ import annotations

from collections.abc import Callable

from hub.proxy.compressed import STEP_BYTES, CompressedBody, Turns
from proto.compression import BLOCK_MAX_BYTES
from proto.compressor import Compressor
from proto.decompressor import Piece
from proto.errors import ProtocolError
from tests.proto.bodies import block, event, runs

BOMB = block(1, BLOCK_MAX_BYTES, runs(BLOCK_MAX_BYTES))


class Client:
    """Takes `room` bytes, then no more until it is given room."""

    def __init__(self, room: int = 10**12, beside: Client | None = None) -> None:
        self.room = room
        self.taken = b""
        self.flushes = 0
        self.error: ProtocolError | None = None
        self.later: list[Callable[[], None]] = beside.later if beside else []
        self.turns = beside.turns if beside else Turns(self.later.append)
        self.body = CompressedBody(self, self.turns)
        self.ended: list[str] = []

    @property
    def may_take(self) -> bool:
        return self.room > 0 and self.error is None

    def take(self, piece: Piece) -> None:
        self.taken += piece.data
        self.room -= len(piece.data)

    def flush(self) -> None:
        self.flushes += 1

    def garbled(self, error: ProtocolError) -> None:
        self.error = error

    def turn(self) -> None:
        """The loop's next turn."""
        later, self.later[:] = self.later[:], []
        for call in later:
            call()


def encoded(*pieces: bytes) -> memoryview:
    compressor = Compressor(256 * 1024)
    return memoryview(b"".join(each for piece in pieces for each in compressor.encode(piece)))


def test_an_event_is_passed_on_at_once() -> None:
    client, wire = Client(), encoded(event(1), event(2))
    client.body.feed(wire[:-1])
    assert client.taken == event(1)
    client.body.feed(wire[-1:])
    assert client.taken == event(1) + event(2)
    assert client.later == []


def test_one_turn_of_the_loop_decodes_so_much_and_no_more() -> None:
    client = Client()
    client.body.feed(memoryview(BOMB * 20))
    assert len(client.taken) == STEP_BYTES
    client.body.feed(memoryview(BOMB))
    client.body.advance()
    assert len(client.taken) == STEP_BYTES
    for _ in range(10):
        client.turn()
    assert len(client.taken) == 21 * BLOCK_MAX_BYTES
    assert client.flushes >= 21


def test_tiny_blocks_count_too() -> None:
    client = Client()
    client.body.feed(memoryview(block(0, 1, b"x") * 10_000))
    assert len(client.taken) == 64
    assert len(client.later) == 1


def test_all_bodies_share_a_turn_and_nobody_starves() -> None:
    """Thousands of streams in one message must not stand the loop still."""
    greedy = Client()
    greedy.body.feed(memoryview(BOMB * 40))
    others = [Client(beside=greedy) for _ in range(3)]
    for each in others:
        each.body.feed(memoryview(BOMB * 4))
        assert each.taken == b""
    total = len(greedy.taken)
    for _ in range(4):
        greedy.turn()
        now = sum(len(each.taken) for each in (greedy, *others))
        assert now - total == STEP_BYTES
        total = now
    assert [len(each.taken) for each in others] == [STEP_BYTES] * 3


def test_what_the_client_does_not_read_stays_compressed() -> None:
    client = Client(room=1)
    client.body.feed(memoryview(BOMB * 3))
    assert len(client.taken) == BLOCK_MAX_BYTES
    assert client.body.pending_bytes == 2 * len(BOMB)
    assert client.body.is_behind
    client.room = 1
    client.body.advance()
    client.room = 1
    client.body.advance()
    assert not client.body.is_behind
    assert client.body.pending_bytes == 0


def test_the_end_comes_behind_the_last_block() -> None:
    client = Client(room=1)
    client.body.feed(memoryview(BOMB * 3))
    client.body.end_with(lambda: client.ended.append("first"))
    client.body.end_with(lambda: client.ended.append("second"))
    assert client.body.is_ending
    for _ in range(2):
        assert client.ended == []
        client.room = 1
        client.body.advance()
    assert client.ended == ["first"]
    assert not client.body.is_ending


def test_nonsense_is_told_and_stops_everything() -> None:
    client = Client()
    client.body.feed(memoryview(block(0, 1, b"x") + b"\xff" * 8 + block(0, 1, b"y")))
    assert client.error is not None
    assert client.taken == b"x"
