"""proto/aio/websocket.py over a transport in memory. Real sockets: tests/hub/tunnel, tests/agent/uplink."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest

from proto import websocket
from proto.aio.transport import CLIENT_BUFFER, TUNNEL_BUFFER
from proto.aio.websocket import CONTROL_FRAMES_BURST, WebSocketTransport
from proto.limits import HANDSHAKE_MAX_BYTES
from proto.websocket import Control, FrameReader

MASK = b"mask"


class FakeSocket:
    family = socket.AF_UNIX

    def __init__(self) -> None:
        self.options: list[tuple[int, int, bytes]] = []

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self.options.append((level, option, value))


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `buffered` is what the socket has not taken."""

    def __init__(self, peername: object = ("192.0.2.1", 4000)) -> None:
        self.socket = FakeSocket()
        super().__init__({"peername": peername, "socket": self.socket})
        self.protocol: Any = None
        self.written = b""
        self.buffered = 0
        self.is_reading = True
        self.is_ended = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_ended

    def close(self) -> None:
        self.is_ended = True

    abort = close


class Receiver:
    def __init__(self) -> None:
        self.log: list[object] = []
        self.parts: list[int] = []

    def message_received(self, message: bytes) -> None:
        self.log.append(message)

    def part_received(self, size: int) -> None:
        self.parts.append(size)

    def transport_writable(self) -> None:
        self.log.append("writable")

    def transport_lost(self, error: Exception) -> None:
        self.log.append(type(error))


class Line:
    def __init__(self, *, is_server: bool = True, early: bytes = b"") -> None:
        self.raw = FakeTransport()
        self.is_server = is_server
        self.transport = WebSocketTransport(cast(asyncio.Transport, self.raw), is_server=is_server, early=early)
        self.receiver = Receiver()

    def feed(self, opcode: int, payload: bytes = b"") -> None:
        self.feed_raw(websocket.frame(opcode, payload, MASK if self.is_server else None))

    def feed_raw(self, raw: bytes) -> None:
        while raw:
            room = self.raw.protocol.get_buffer(-1)
            piece, raw = raw[: len(room)], raw[len(room) :]
            room[: len(piece)] = piece
            self.raw.protocol.buffer_updated(len(piece))

    @property
    def sent(self) -> list[bytes | Control]:
        found: list[bytes | Control] = []
        reader = FrameReader(is_server=not self.is_server, message_max=1 << 30)
        reader.feed(memoryview(self.raw.written), found.append, found.append)
        return found

    async def bound(self) -> "Line":
        self.transport.bind(self.receiver)
        await asyncio.sleep(0)
        return self


@pytest.mark.parametrize("is_server", [True, False])
async def test_messages_both_ways(is_server: bool) -> None:
    line = Line(is_server=is_server)
    line.feed(websocket.BINARY, b"hello")
    assert await line.transport.receive() == b"hello"
    await line.bound()
    long = [random.Random(seed).randbytes(200_000) for seed in range(3)]  # more than is read at a time
    line.feed_raw(b"".join(websocket.frame(websocket.BINARY, each, MASK if is_server else None) for each in long))
    line.transport.write(b"answer")
    assert line.receiver.log == long
    assert line.sent == [b"answer"]
    assert line.transport.peer == "192.0.2.1:4000"


def test_what_tls_may_have_fits_into_a_buffer() -> None:
    """Less than one record (RFC 8446 §5.2, 22 bytes of it are not data) is there before a read of the socket."""
    record, read = 16 * 1024 + 22, 256 * 1024
    assert record - 1 + read - 22 <= len(TUNNEL_BUFFER)
    assert len(CLIENT_BUFFER) == len(TUNNEL_BUFFER)


async def test_what_comes_from_a_tunnel_is_safe_from_what_comes_from_a_client() -> None:
    line = await Line().bound()
    got = line.receiver.message_received

    def receive(message: bytes) -> None:
        CLIENT_BUFFER[:] = bytes(len(CLIENT_BUFFER))
        got(message)

    line.receiver.message_received = receive  # type: ignore[method-assign]
    line.feed_raw(websocket.frame(websocket.BINARY, b"one", MASK) + websocket.frame(websocket.BINARY, b"two", MASK))
    assert line.receiver.log == [b"one", b"two"]


async def test_a_client_masks_every_frame_anew() -> None:
    line = Line(is_server=False)
    for _ in range(2000):
        line.transport.write(b"")
    masks = [line.raw.written[at + 2 : at + 6] for at in range(0, len(line.raw.written), 6)]
    assert len(set(masks)) >= 1998  # of 32 bits: two of them may be equal by chance, once in two thousand runs


async def test_what_came_behind_the_opening_handshake_is_not_lost() -> None:
    line = Line(early=websocket.frame(websocket.BINARY, b"early", MASK))
    assert await line.transport.receive() == b"early"


async def test_reading_stops_while_messages_of_the_handshake_wait() -> None:
    line = Line()
    for number in range(4):
        assert line.raw.is_reading
        line.feed(websocket.BINARY, bytes([number]))
    assert not line.raw.is_reading
    await line.transport.receive()
    assert line.raw.is_reading
    line.feed(websocket.BINARY, b"x")
    await line.bound()
    assert line.raw.is_reading
    assert len(line.receiver.log) == 4


async def test_a_message_is_small_until_a_receiver_is_bound() -> None:
    line = Line()
    line.feed(websocket.BINARY, bytes(HANDSHAKE_MAX_BYTES + 1))
    with pytest.raises(ConnectionAbortedError):
        await line.transport.receive()
    assert line.sent == [Control(websocket.CLOSE, b"\x03\xf1a message of more than 65536 bytes")]


async def test_a_refusal_waits_for_the_peer_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proto.aio.websocket.LINGER_S", 0.0)
    line = Line()
    line.feed(websocket.TEXT, b"hello")
    line.transport.abort()
    assert not line.raw.is_ended
    line.feed(websocket.BINARY, b"thrown away")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert line.raw.is_ended


async def test_a_reset_leaves_nothing_with_the_kernel() -> None:
    line = Line()
    line.transport.reset()
    assert line.raw.is_ended
    assert line.raw.socket.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]
    line.raw.socket.options.clear()
    line.transport.abort()
    assert line.raw.socket.options == []


async def test_goodbyes_are_answered_and_told() -> None:
    line = await Line().bound()
    line.feed_raw(
        websocket.frame(websocket.BINARY, b"last", MASK)
        + websocket.frame(websocket.CLOSE, b"\x03\xe9bye", MASK)
        + websocket.frame(websocket.BINARY, b"late", MASK)
    )
    assert line.receiver.log == [b"last", EOFError]
    assert line.sent == [Control(websocket.CLOSE, b"\x03\xe9")]
    assert (line.raw.is_ended, line.transport.close_code) == (True, 1001)
    line.transport.write(b"nobody hears")
    line.raw.protocol.connection_lost(None)
    assert len(line.sent) == 1
    assert line.receiver.log == [b"last", EOFError]
    with pytest.raises(ConnectionError):
        await line.transport.send(b"x")


async def test_our_goodbye_waits_for_the_end() -> None:
    line = await Line().bound()
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(line.transport.close(1000, "done"))
        await asyncio.sleep(0)
        assert not closing.done()
        line.feed(websocket.CLOSE, b"\x03\xe8")
        assert line.raw.is_ended
        line.raw.protocol.connection_lost(None)
    assert line.sent == [Control(websocket.CLOSE, b"\x03\xe8done")]


async def test_a_connection_that_breaks_is_no_orderly_end() -> None:
    line = await Line().bound()
    line.raw.protocol.eof_received()
    line.raw.protocol.connection_lost(OSError())
    assert line.receiver.log == [ConnectionResetError]


async def test_others_may_say_when_a_loss_is_noticed() -> None:
    later: list[Callable[[], None]] = []
    raw, receiver = FakeTransport(), Receiver()
    transport = WebSocketTransport(cast(asyncio.Transport, raw), is_server=True, notice=later.append)
    transport.bind(receiver)
    await asyncio.sleep(0)
    async with asyncio.TaskGroup() as group:
        group.create_task(transport.close(1000, ""))  # it does not wait for that
        await asyncio.sleep(0)
        transport.connection_lost(None)
    assert not transport.is_writable  # who asks meanwhile keeps it: a change would have an unknown outcome
    assert receiver.log == []
    (tell,) = later
    tell()
    assert receiver.log == [ConnectionResetError]


async def test_a_message_that_comes_slowly_is_heard_of() -> None:
    """Its bytes show that the peer lives: 64 KiB take seconds over a slow way."""
    line = await Line().bound()
    raw = websocket.frame(websocket.BINARY, bytes(5000), MASK)
    line.feed_raw(raw[:100])
    line.feed_raw(raw[100:2000])
    line.feed_raw(raw[2000:])
    assert (line.receiver.parts, line.receiver.log) == ([len(raw)] * 2, [bytes(5000)])


async def test_a_ping_is_answered_where_only_some_bytes_wait() -> None:
    line = await Line().bound()
    line.raw.buffered = 1000  # below the mark from which the transport would say when they have left
    line.feed(websocket.PING, b"one")
    assert line.sent == [Control(websocket.PONG, b"one")]


async def test_a_full_socket_is_felt_and_owes_one_pong() -> None:
    line = await Line().bound()
    line.raw.protocol.pause_writing()
    line.raw.buffered = 100_000
    assert not line.transport.is_writable
    line.feed(websocket.PING, b"one")
    line.feed(websocket.PING, b"two")
    assert line.sent == []
    line.raw.buffered = 0
    line.raw.protocol.resume_writing()
    assert line.transport.is_writable
    assert line.sent == [Control(websocket.PONG, b"two")]
    assert line.receiver.log == ["writable"]
    line.feed(websocket.PING, b"three")
    assert line.sent[1:] == [Control(websocket.PONG, b"three")]


@pytest.mark.parametrize("opcode", [websocket.PING, websocket.PONG])
async def test_control_frames_have_an_allowance(opcode: int) -> None:
    line = await Line().bound()
    for _ in range(int(CONTROL_FRAMES_BURST) + 5):
        line.feed(opcode, b"x")
    assert line.receiver.log == [ConnectionAbortedError]
    assert line.sent[-1] == Control(websocket.CLOSE, b"\x03\xf0too many control frames")


async def test_a_broken_goodbye_is_refused() -> None:
    line = await Line().bound()
    line.feed(websocket.CLOSE, b"\x03\xed")
    assert line.receiver.log == [ConnectionAbortedError]
    assert cast(Control, line.sent[0]).payload[:2] == b"\x03\xea"


async def test_an_address_is_written_as_the_hubs_edge_writes_it() -> None:
    raw = cast(asyncio.Transport, FakeTransport(("2001:db8::1", 4000, 0, 0)))
    assert WebSocketTransport(raw, is_server=True).peer == "[2001:db8::1]:4000"
