"""HTTP/1.1 on a bare TLS connection: for clients that stall, vanish, or send what no library sends."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from tests.e2e.entry import Entry

SMALL_BUFFER = 16 * 1024


@dataclass(frozen=True)
class Head:
    """A response head: status, and header fields by lower-case name (the last one of each wins)."""

    status: int
    fields: Mapping[str, str]


class RawConnection:
    """One connection; what is not read stays where it is, so that the sender feels it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, entry: Entry) -> None:
        self.reader = reader
        self._writer = writer
        self._entry = entry

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def request(self, method: str, path: str, *fields: str, body: bytes = b"") -> None:
        """Send a request for an API path with this entry's token; `fields` are further header lines."""
        lines = [
            f"{method} {self._entry.prefix}{path} HTTP/1.1",
            "Host: hub",
            f"Authorization: Bearer {self._entry.token}",
            *fields,
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self, within: float = 40.0) -> Head:
        """Read one response head."""
        async with asyncio.timeout(within):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        fields = dict(line.split(":", 1) for line in lines if line)
        return Head(int(first.split()[1]), {name.lower(): value.strip() for name, value in fields.items()})

    async def rest(self, within: float = 40.0) -> bytes:
        """Everything until the connection's end; raises ConnectionError when it was broken off."""
        async with asyncio.timeout(within):
            return await self.reader.read()

    def vanish(self) -> None:
        """Be gone at once (RST), as a client whose machine died behind a firewall that says so."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_connection(entry: Entry, *, receive_buffer: int = 0) -> AsyncIterator[RawConnection]:
    """A TLS connection to where `entry` leads; `receive_buffer` bytes instead of what the kernel would give."""
    plain = socket.socket(socket.AF_INET)
    plain.setblocking(False)
    if receive_buffer:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    host, port = entry.address
    try:
        await asyncio.get_running_loop().sock_connect(plain, (host, port))
    except BaseException:
        plain.close()
        raise
    reader, writer = await asyncio.open_connection(sock=plain, ssl=entry.context, server_hostname=host)
    connection = RawConnection(reader, writer, entry)
    try:
        yield connection
    finally:
        await connection.close()
