"""A TCP proxy that plays the network between an agent and its hub. Deterministic: seed, number of the connection and
direction decide every delay, loss and damaged bit; only the kernel's timing of reads is its own.

Callbacks only, so that no connection leaves a task behind.
"""

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.faults.weather import Line, Weather

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: closing sends RST."""
_KERNEL_BYTES: Final = 64 * 1024
"""Of the sockets' buffers: what lies there is under no weather, so it must be little."""


class Way(enum.Enum):
    """A direction, named by where its bytes go."""

    TO_HUB = "to-hub"
    TO_AGENT = "to-agent"


class FaultProxy:
    """Listens on loopback and connects to `target`. `weather[way]` holds for all connections, also those under way."""

    def __init__(self, target: tuple[str, int], *, seed: int) -> None:
        self.target = target
        self.weather = {way: Weather() for way in Way}
        self.connections: list[_Connection] = []
        """Those that live."""
        self.accepted = 0
        self.refuses = False
        """New connections are reset."""
        self._seed = seed
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        listener.bind(("127.0.0.1", 0))
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=listener)
        self.port = listener.getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.reset()
        if self._server is not None:
            await self._server.wait_closed()
        await asyncio.sleep(0)

    def _accept(self) -> "_Side":
        self.accepted += 1
        lines = {way: Line(self.weather[way], f"{self._seed}/{self.accepted}/{way.value}") for way in Way}
        connection = _Connection(self, lines)
        return connection.sides[Way.TO_HUB]

    # Faults

    def silence(self, *ways: Way) -> None:
        """Nothing arrives any more in these directions, all when none is named; nobody is told."""
        for way in ways or tuple(Way):
            self.weather[way].is_silent = True

    def heal(self) -> None:
        """The silence is over: what was sent meanwhile arrives now."""
        for weather in self.weather.values():
            weather.is_silent, weather.progress_bytes = False, None
        for connection in tuple(self.connections):
            connection.pump()

    def reset(self) -> int:
        """RST to both ends of every connection; how many."""
        doomed = tuple(self.connections)
        for connection in doomed:
            connection.reset()
        return len(doomed)

    def half_open(self, gone: Way) -> int:
        """The end that `gone` leads to is reset, the other one is not told and gets no answer ever; how many."""
        doomed = tuple(self.connections)
        for connection in doomed:
            connection.orphan(gone)
        return len(doomed)


class _Connection:
    """Two sockets and the line of each direction."""

    def __init__(self, proxy: FaultProxy, lines: dict[Way, Line]) -> None:
        self.proxy = proxy
        self.lines = lines
        # The side that reads what goes in a direction bears its name.
        self.sides = {way: _Side(self, way) for way in Way}
        self._timers: dict[Way, asyncio.TimerHandle] = {}
        self._dial: asyncio.Task[Any] | None = None
        self._has_ended: dict[Way, bool] = dict.fromkeys(Way, False)
        self._orphaned: Way | None = None

    def begin(self) -> None:
        self.proxy.connections.append(self)
        if self.proxy.refuses:
            self.reset()
            return
        # A dial of loopback that lasts a moment; ended by `reset`.
        loop = asyncio.get_running_loop()
        self._dial = loop.create_task(self._connect(), name="fault proxy dial")

    async def _connect(self) -> None:
        wire = socket.socket()
        wire.setblocking(False)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(wire, self.proxy.target)
            await loop.create_connection(lambda: self.sides[Way.TO_AGENT], sock=wire)
        except OSError:
            wire.close()
            self.reset()
        except BaseException:
            wire.close()
            raise
        else:
            self._dial = None
            self.pump()

    # From the sides

    def received(self, way: Way, data: bytes) -> None:
        self.lines[way].send(data, asyncio.get_running_loop().time())
        self.pump()

    def ended(self, way: Way) -> None:
        """No more bytes come from the sender of this direction: its FIN."""
        self._has_ended[way] = True
        self.pump()

    def lost(self, way: Way, error: Exception | None) -> None:
        """The socket of this direction's sender is gone; the other end hears it when the direction lets it."""
        self._has_ended[way] = True
        self.sides[way].is_broken = error is not None
        self.pump()

    # Moving

    def pump(self) -> None:
        """Deliver what is due, stop or let go the senders, and come back in time."""
        now = asyncio.get_running_loop().time()
        for way in Way:
            self._pump(way, now)
        if self._dial is None and all(self._has_passed_end(way) for way in Way):
            for side in self.sides.values():
                side.drop(is_reset=False)
        if self._dial is None and all(side.transport is None for side in self.sides.values()):
            self._forget()

    def _has_passed_end(self, way: Way) -> bool:
        return self._has_ended[way] and self.lines[way].is_empty and not self.lines[way].weather.is_silent

    def _pump(self, way: Way, now: float) -> None:
        line, reader, writer = self.lines[way], self.sides[way], self.sides[_other(way)]
        if self._orphaned is None and writer.transport is not None:
            if data := line.due(now):
                writer.transport.write(data)
            if self._has_ended[way] and line.is_empty and not line.weather.is_silent:
                self._pass_end(reader, writer)
        room_at = line.room_at(now)
        reader.flow(room_at <= now and (writer.is_writable or self._orphaned is not None))
        times = [at for at in (line.next_at(), room_at) if at is not None and now < at < float("inf")]
        if (timer := self._timers.pop(way, None)) is not None:
            timer.cancel()
        if times:
            self._timers[way] = asyncio.get_running_loop().call_at(min(times) + 0.0005, self.pump)

    def _pass_end(self, reader: "_Side", writer: "_Side") -> None:
        if reader.transport is not None:
            writer.end()
        else:
            writer.drop(is_reset=reader.is_broken)

    # Faults

    def reset(self) -> None:
        for side in self.sides.values():
            side.drop(is_reset=True)
        self._forget()

    def orphan(self, gone: Way) -> None:
        self._orphaned = gone
        self.sides[_other(gone)].drop(is_reset=True)

    def _forget(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        with contextlib.suppress(ValueError):
            self.proxy.connections.remove(self)


class _Side(asyncio.Protocol):
    """One socket: it reads what goes `way` and writes what goes the other way."""

    def __init__(self, connection: _Connection, way: Way) -> None:
        self._connection = connection
        self._way = way
        self.transport: asyncio.Transport | None = None
        self.is_writable = True
        self.is_broken = False
        self._has_said_end = False
        self._is_reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        wire = transport.get_extra_info("socket")
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=_KERNEL_BYTES)
        if self._way is Way.TO_HUB:
            self._connection.begin()

    def data_received(self, data: bytes) -> None:
        self._connection.received(self._way, data)

    def eof_received(self) -> bool:
        self._connection.ended(self._way)
        return True  # half open until the other end has ended too

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._connection.lost(self._way, exc)

    def pause_writing(self) -> None:
        self.is_writable = False
        self._connection.pump()

    def resume_writing(self) -> None:
        self.is_writable = True
        self._connection.pump()

    def flow(self, is_wished: bool) -> None:
        if self.transport is None or is_wished is self._is_reading or self.transport.is_closing():
            return
        self._is_reading = is_wished
        if is_wished:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def end(self) -> None:
        if self.transport is not None and not self._has_said_end and not self.transport.is_closing():
            self._has_said_end = True
            with contextlib.suppress(OSError):  # it has reset the connection, and we are about to hear of it
                self.transport.write_eof()

    def drop(self, *, is_reset: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if is_reset:
            wire = self.transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            self.transport.close()


def _other(way: Way) -> Way:
    return Way.TO_AGENT if way is Way.TO_HUB else Way.TO_HUB


@contextlib.asynccontextmanager
async def fault_proxy(target: tuple[str, int], *, seed: int) -> AsyncIterator[FaultProxy]:
    """A proxy in front of `target`; every connection is gone afterwards."""
    proxy = FaultProxy(target, seed=seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
