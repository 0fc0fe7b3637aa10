"""hub/edge/greeting.py: TLS on an accepted socket, with each event loop."""

import asyncio
import importlib.util
import pathlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from hub.edge.greeting import accept_tls
from proto.aio import loop
from proto.aio.tasks import TaskGroup
from tests.harness import pki

loop.factory().close()  # libuv's first loop opens a pipe for signals that lasts as long as the process

LOOPS = [pytest.param(loop.factory, id="installed"), pytest.param(asyncio.new_event_loop, id="asyncio")]


class Served(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_lost, self.has_got = asyncio.Event(), asyncio.Event()
        self.got = b""
        self._buffer = bytearray(1024)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self._buffer[:nbytes]
        self.has_got.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost.set()


class Greeting:
    """Both ends of a connection that is about to be greeted."""

    def __init__(self, directory: pathlib.Path) -> None:
        authority = pki.Authority.create(directory, "ca")
        leaf = authority.leaf("hub", "hub", hosts=["hub.test"])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(leaf.certificate, leaf.key)
        self.trust = ssl.create_default_context(cafile=str(authority.files.certificate))
        self.served = Served()
        self.ours, self.theirs = socket.socketpair()
        for each in (self.ours, self.theirs):
            each.setblocking(False)

    def accept(self) -> Coroutine[Any, Any, asyncio.Transport | None]:
        return accept_tls(self.served, self.ours, self.context, handshake_timeout_s=5.0, shutdown_timeout_s=5.0)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=self.theirs, ssl=self.trust, server_hostname="hub.test")


@pytest.fixture
def greeting(tmp_path: pathlib.Path) -> Greeting:
    return Greeting(tmp_path)


@pytest.mark.parametrize("make", LOOPS)
def test_bytes_go_both_ways_and_uvloop_shows_what_tls_writes_to(
    greeting: Greeting, make: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def talk() -> None:
        below, (source, writer) = await asyncio.gather(greeting.accept(), greeting.dial())
        served = greeting.served
        assert served.transport is not None
        assert served.transport.get_extra_info("ssl_object") is not None
        writer.write(b"ping")
        served.transport.write(b"pong")
        assert await source.readexactly(4) == b"pong"
        await served.has_got.wait()
        assert served.got == b"ping"
        if make is loop.factory and importlib.util.find_spec("uvloop"):
            assert below is not None
            writer.transport.pause_reading()
            while not below.get_write_buffer_size():
                served.transport.write(bytes(64 * 1024))
                await asyncio.sleep(0)
        else:
            assert below is None
        served.transport.abort()
        await served.is_lost.wait()
        writer.close()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(talk())


@pytest.mark.parametrize("make", LOOPS)
def test_a_handshake_that_fails_ends_the_connection(
    greeting: Greeting, make: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def fail() -> None:
        greeting.theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await greeting.accept()
        await ended(greeting.theirs)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(fail())
    assert greeting.served.transport is None


@pytest.mark.parametrize("make", LOOPS)
def test_a_handshake_that_is_given_up_ends_the_connection(
    greeting: Greeting, make: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def give_up() -> None:
        task = TaskGroup("test").spawn(greeting.accept(), name="greeting")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended(greeting.theirs)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(give_up())
    assert greeting.served.transport is None


async def ended(sock: socket.socket) -> None:
    with sock:
        while True:
            try:
                data = await asyncio.get_running_loop().sock_recv(sock, 1024)
            except ConnectionResetError:
                return
            if not data:
                return
