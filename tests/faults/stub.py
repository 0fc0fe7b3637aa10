"""A kube-apiserver for faults: it answers what the query asks for and counts how often each request was executed.

`?id=` names a request; a mutation counts as executed once its body is whole. `?size=` is the length of the answer's
body, `?delay=` seconds before it, `?pace=` seconds between its pieces; `?every=` makes it an answer without end, a line
of JSON each so many seconds. `?unread=` seconds it reads nothing of a request's body. Callbacks only: no connection
leaves a task behind.
"""

import asyncio
import collections
import contextlib
import functools
import hashlib
import itertools
import random
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import httptools

from tests.harness import pki

PIECE_BYTES: Final = 16 * 1024
PIECES_A_TURN: Final = 8
"""Written at a time; then the loop may tell that the client is gone."""
SAFE: Final = frozenset({"GET", "HEAD"})
LINE: Final = b'{"type":"BOOKMARK","object":{}}\n'
"""What `?every=` repeats."""


@functools.cache
def _block() -> bytes:
    return random.Random(PIECE_BYTES).randbytes(1_048_573)


def pieces(size: int) -> Iterator[bytes]:
    """An answer's body of this size: no two pieces of PIECE_BYTES are alike before 16 GiB."""
    block, at = _block(), 0
    while at < size:
        start = at % len(block)
        piece = block[start : start + min(PIECE_BYTES, size - at)]
        yield piece
        at += len(piece)


@functools.cache
def digest(size: int) -> str:
    """SHA-256 of that body."""
    digester = hashlib.sha256()
    for piece in pieces(size):
        digester.update(piece)
    return digester.hexdigest()


class Stub:
    """One API server. It must be left with `close` in the loop that `start`ed it."""

    def __init__(self, directory: Path, name: str = "stub", *, hosts: Sequence[str] = ()) -> None:
        self.executed: collections.Counter[str] = collections.Counter()
        """Mutations by id."""
        self.asked: collections.Counter[str] = collections.Counter()
        """Heads of requests by id, reads too."""
        self.served: collections.Counter[str] = collections.Counter()
        """Requests by the name of the agent whose token came with them, `/version` left out."""
        self.bodies: dict[str, str] = {}
        """SHA-256 of the body of each mutation, by id; of the last execution."""
        self.hangs = False
        """Takes requests and never answers."""
        self.connections: set[_Connection] = set()
        self.port = 0
        authority = pki.Authority.create(directory, f"{name}-ca")
        leaf = authority.leaf(name, "kube-apiserver", hosts=["127.0.0.1", "localhost", *hosts])
        self.ca_file = authority.files.certificate
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(leaf.certificate, leaf.key)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on every address of the machine, on one port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "0.0.0.0", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()
        await asyncio.sleep(0)

    def more_than_once(self) -> dict[str, int]:
        """Mutations that were executed twice or more."""
        return {name: count for name, count in self.executed.items() if count > 1}


class _Connection(asyncio.Protocol):
    """One client's connection, one request at a time."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._path = self._agent = self.asked = ""
        self._rest: Iterator[bytes] = iter(())
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._query: dict[str, list[str]] = {}
        self._digester = hashlib.sha256()

    @property
    def socket(self) -> socket.socket:
        """What the kernel has of it."""
        found: socket.socket = self._transport.get_extra_info("socket")
        return found

    def abort(self) -> None:
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # the kernel of the API server's machine is not measured, yet its memory for TCP is shared here
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._stub.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stub.connections.discard(self)
        self._rest = iter(())
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write()

    # httptools

    def on_message_begin(self) -> None:
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._agent = value.decode("ascii").removeprefix("Bearer ")

    def on_headers_complete(self) -> None:
        parts = urlsplit(self._url.decode("ascii"))
        self._path, self._query = parts.path, parse_qs(parts.query)
        self._digester = hashlib.sha256()
        if name := self._asked("id"):
            self.asked = name
            self._stub.asked[name] += 1
            self._stub.served[self._agent] += 1
        if unread := self._asked("unread"):
            self._transport.pause_reading()
            self._timer = asyncio.get_running_loop().call_later(float(unread), self._transport.resume_reading)

    def on_body(self, body: bytes) -> None:
        self._digester.update(body)

    def on_message_complete(self) -> None:
        if self._stub.hangs:
            return
        method = self._parser.get_method().decode("ascii")
        if method not in SAFE and (name := self._asked("id")):
            self._stub.executed[name] += 1
            self._stub.bodies[name] = self._digester.hexdigest()
        delay = float(self._asked("delay") or 0)
        answer = functools.partial(self._answer, method)
        if delay:
            self._timer = asyncio.get_running_loop().call_later(delay, answer)
        else:
            answer()

    # The answer

    def _asked(self, name: str) -> str:
        return self._query.get(name, [""])[0]

    def _answer(self, method: str) -> None:
        if self._path == "/version":
            version = b'{"major":"1","minor":"37","gitVersion":"v1.37.2"}'
            self._begin(b"application/json", len(version), [version])
            return
        if self._asked("every"):
            self._begin(b"application/json", 0, itertools.repeat(LINE))
            return
        size = int(self._asked("size") or 16)
        self._begin(b"text/plain", size, () if method == "HEAD" else pieces(size))

    def _begin(self, kind: bytes, size: int, content: Iterable[bytes]) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n" % kind
        if self._asked("chunked") or self._asked("every"):
            self._transport.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            chunks = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in content)
            self._rest = itertools.chain(chunks, [b"0\r\n\r\n"])
        else:
            self._transport.write(head + b"Content-Length: %d\r\n\r\n" % size)
            self._rest = iter(content)
        self._write()

    def _write(self) -> None:
        for _ in range(PIECES_A_TURN):
            if self._is_paused or self._transport.is_closing():
                return
            piece = next(self._rest, None)
            if piece is None:
                return
            self._transport.write(piece)
            if pace := self._asked("pace") or self._asked("every"):
                self._timer = asyncio.get_running_loop().call_later(float(pace), self._write)
                return
        asyncio.get_running_loop().call_soon(self._write)


@contextlib.asynccontextmanager
async def api_server(directory: Path, *, hosts: Sequence[str] = ()) -> AsyncIterator[Stub]:
    """A stub that listens; all of it is gone afterwards. `hosts`: more addresses under which agents find it."""
    stub = Stub(directory, hosts=hosts)
    await stub.start()
    try:
        yield stub
    finally:
        await stub.close()
