"""hub/tunnel/wsserver.py, proto/aio/websocket.py: hostile frames on a raw socket (facts/security.md D11 to D16)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
import trustme
from aiohttp import web

from hub import errors
from hub.edge.application import Application
from hub.edge.framing import Request, read_request
from hub.edge.head import parse_head
from hub.edge.server import EdgeServer
from hub.tunnel.wsserver import switching
from proto.aio.tasks import TaskGroup
from proto.aio.websocket import WebSocketTransport
from proto.limits import MESSAGE_MAX_BYTES
from proto.versions import SUBPROTOCOL

MASK = b"\x00\x00\x00\x00"
UPGRADE = (
    "GET /v1/tunnel HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
).encode()


def frame(first: int, payload: bytes = b"", *, masked: bool = True, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, bit | 127]) + struct.pack("!Q", size)
    return head + (MASK if masked else b"") + payload


class Server:
    """hub.edge.application.Tunnels: serves one transport and keeps what it received and how it ended."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.ended: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()
        self.transport: WebSocketTransport | None = None
        self.tasks = TaskGroup("server")

    def take(self, transport: asyncio.Transport, request: Request, early: bytes, when_lost: Callable[[], None]) -> None:
        transport.write(switching(request))
        self.transport = WebSocketTransport(transport, is_server=True, early=early)
        self.transport.bind(self)

    def message_received(self, message: bytes) -> None:
        self.received.append(message)

    def part_received(self, size: int) -> None:
        pass

    def transport_writable(self) -> None:
        pass

    def transport_lost(self, error: Exception) -> None:
        self.ended.set_result(type(error))
        assert self.transport is not None
        self.transport.abort()

    greetings = 0

    def __len__(self) -> int:
        return 0

    async def aclose(self) -> None:
        if self.transport is not None:
            self.transport.abort()


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Server, int]]:
    server = Server()
    edge = EdgeServer(
        listen=[("127.0.0.1", 0)],
        tls=tls,
        aiohttp_app=web.Application(),
        application=cast(Application, None),
        tunnels=server,
    )
    ((_, port),) = await edge.start()
    try:
        yield server, port
    finally:
        await edge.close()


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head
        assert b"extensions" not in head.lower()
        yield server, reader, writer
        writer.transport.abort()
        await asyncio.wait_for(server.ended, 30)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition never came true")


async def close_code(reader: asyncio.StreamReader) -> int | None:
    """The code of the close frame that ends the connection; None when it ends without."""
    raw = b""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                raw += chunk
    while raw:
        opcode, size = raw[0] & 15, raw[1]
        if opcode == 8:
            return int.from_bytes(raw[2:4], "big")
        raw = raw[2 + size :]
    return None


HOSTILE = {
    "D12 compressed": (frame(0xC2, b"x"), {1002}),
    "D13 a flood of parts": (frame(0x02, b"") + frame(0x00, b"") * 300_000, {1002}),
    "D14 length 2^63-1": (frame(0x02, b"abc") + frame(0x80, b"", length=2**63 - 1), {1009, 1002}),
    "D14 too long": (frame(0x82, b"", length=MESSAGE_MAX_BYTES + 1), {1009}),
    "D14 too long in parts": (frame(0x02, bytes(MESSAGE_MAX_BYTES)) + frame(0x80, b"xx"), {1009}),
    "D16 reserved opcode": (frame(0x83, b"x"), {1002}),
    "D16 reserved control opcode": (frame(0x8B, b""), {1002}),
    "D16 long control frame": (frame(0x89, bytes(126)), {1002}),
    "D16 fragmented control frame": (frame(0x09, b"x"), {1002}),
    "D16 continuation of nothing": (frame(0x80, b"x"), {1002}),
    "D16 new message inside a message": (frame(0x02, b"x") + frame(0x82, b"y"), {1002}),
    "D16 bad UTF-8 in a close": (frame(0x88, b"\x03\xe8\xff\xfe"), {1002, 1007}),
    "D16 close code 1005 on the wire": (frame(0x88, struct.pack("!H", 1005)), {1002}),
    "text": (frame(0x81, b"hello"), {1003}),
}


@pytest.mark.parametrize(("raw", "codes"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_frames_end_the_connection(raw: bytes, codes: set[int]) -> None:
    async with connected() as (server, reader, writer):
        writer.write(raw)
        assert await close_code(reader) in codes
        assert server.received == []


async def test_a_message_in_parts_arrives_whole() -> None:
    async with connected() as (server, reader, writer):
        writer.write(frame(0x02, b"ab") + frame(0x00, b"cd") + frame(0x80, b"ef") + frame(0x82, b"next"))
        writer.write(frame(0x88, struct.pack("!H", 1000)))
        await close_code(reader)
        assert await server.ended is EOFError
        assert server.received == [b"abcdef", b"next"]


@pytest.mark.parametrize("cut", [1, 3, 4, 7, 8, 200, 307])
async def test_a_message_that_the_wire_cuts_never_arrives(cut: int) -> None:
    """At any byte: of the header, the length, the mask, the payload. What was whole before it does arrive."""
    async with connected() as (server, _, writer):
        writer.write(frame(0x82, b"whole") + frame(0x82, bytes(300))[:cut])
        await until(lambda: server.received == [b"whole"])
        writer.transport.abort()
        await asyncio.wait_for(asyncio.shield(server.ended), 30)
        assert server.received == [b"whole"]


async def test_tiny_segments_do_not_grow_memory() -> None:
    """D15: one message in single bytes; what waits is never more than the message."""
    async with connected() as (server, reader, writer):
        raw = frame(0x82, bytes(20_000))
        for position in range(0, len(raw), 50):
            writer.write(raw[position : position + 50])
            await writer.drain()
        writer.write(frame(0x88, struct.pack("!H", 1000)))
        await close_code(reader)
        assert server.received == [bytes(20_000)]


async def test_the_options_reach_the_real_socket_through_tls() -> None:
    """At the hub the socket lies below uvloop's or asyncio's TLS layer."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    async with serving(context) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="localhost")
        writer.write(UPGRADE)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await until(lambda: server.transport is not None)
        assert server.transport is not None
        assert server.transport._transport is not None
        sock = server.transport._transport.get_extra_info("socket")
        tcp = socket.IPPROTO_TCP
        assert sock.getsockopt(tcp, socket.TCP_NODELAY)
        assert sock.getsockopt(tcp, socket.TCP_NOTSENT_LOWAT) == 128 * 1024
        assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 20_000
        writer.transport.abort()
        await asyncio.wait_for(server.ended, 30)


async def test_a_ping_never_makes_the_reader_wait() -> None:
    """The socket is full: the pong leaves when it has room, and the reader goes on."""
    async with connected() as (server, reader, writer):
        await until(lambda: server.transport is not None)
        transport = server.transport
        assert transport is not None
        writer.transport.pause_reading()
        transport.write(bytes(30_000_000))
        await asyncio.sleep(0.1)
        assert not transport.is_writable
        writer.write(frame(0x89, b"one") + frame(0x89, b"two") + frame(0x82, b"data"))
        async with asyncio.timeout(30):
            await until(lambda: server.received == [b"data"])
        writer.transport.resume_reading()
        seen = bytearray()
        async with asyncio.timeout(20):
            while not seen.endswith(b"\x8a\x03two"):
                seen += await reader.read(1 << 20)
                del seen[:-16]
        assert transport.is_writable


async def test_a_reader_that_stops_is_felt_and_a_closed_socket_takes_nothing() -> None:
    async with connected() as (server, _reader, writer):
        await until(lambda: server.transport is not None)
        transport = server.transport
        assert transport is not None
        writer.transport.pause_reading()
        sent = 0
        while transport.is_writable and sent < 2000:
            transport.write(bytes(65_536))
            sent += 1
        assert 0 < sent < 2000
        transport.abort()
        with pytest.raises(ConnectionError):
            await transport.send(b"x")
        assert transport.peer.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X-Key: none", 400),
        ("Upgrade: websocket", "X-Upgrade: websocket", 400),
        ("GET ", "POST ", 400),
        (f"Protocol: {SUBPROTOCOL}", f"Protocol: {SUBPROTOCOL}\r\nOrigin: https://evil", 403),
    ],
)
def test_an_upgrade_that_is_none(old: str, new: str, status: int) -> None:
    raw = UPGRADE.decode().replace(old, new).encode()
    request = read_request(parse_head(raw), 0.0, "1.2.3.4:5")
    with pytest.raises(errors.HubError) as caught:
        switching(request)
    assert caught.value.http_status == status


def test_the_example_of_the_rfc() -> None:
    """RFC 6455 §1.3."""
    answer = switching(read_request(parse_head(UPGRADE), 0.0, "1.2.3.4:5"))
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
