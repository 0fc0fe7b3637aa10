"""A connection of the hub's front over a fake transport, and both of its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from hub import errors
from hub.edge.application import Front
from hub.edge.connection import EdgeConnection
from hub.edge.framing import Request
from hub.edge.limits import EdgeLimits

GET: Final = b"GET /k8s/clusters/a/api HTTP/1.1\r\nHost: h\r\n\r\n"
POST: Final = b"POST /k8s/clusters/a/api HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"


class FakeSocket:
    """What a transport shows of its socket."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.is_closed = False

    def fileno(self) -> int:
        return -1

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if self.is_closed:
            raise ValueError("negative file descriptor")  # as uvloop's
        self.options[option] = value


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.writes = 0
        self.is_reading = True
        self.is_closed = self.is_aborted = self.is_eof = False
        self.unsent = 0
        self.high = 0
        self.sock = FakeSocket()
        self.when_written: Callable[[], None] | None = None

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int) -> None:
        if self.is_closed:
            raise RuntimeError("unable to perform operation; the handler is closed")  # as uvloop's transport of TCP
        self.high = high

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str) -> FakeSocket | None:
        return self.sock if name == "socket" else None

    def write(self, data: bytes) -> None:
        self.written += data
        self.writes += 1
        if self.when_written is not None:
            self.when_written()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_eof = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class FakeExchange:
    def __init__(self, front: Front, request: Request) -> None:
        self.front = front
        self.request = request
        self.got = b""
        self.is_complete = self.is_gone = self.has_eof = False
        self.drains = 0
        self.error: errors.HubError | None = None

    def body(self, data: bytes) -> None:
        self.got += data

    def body_complete(self) -> None:
        self.is_complete = True

    def body_failed(self, error: errors.HubError) -> None:
        self.error = error
        self.front.finish(is_reusable=False)

    def drained(self) -> None:
        self.drains += 1

    def client_eof(self) -> None:
        self.has_eof = True

    def gone(self) -> None:
        self.is_gone = True


class FakeHost:
    """Server and application in one."""

    def __init__(self) -> None:
        self.limits = EdgeLimits(pipelined_bytes_max=100)
        self.host_names: frozenset[bytes] | None = None
        self.is_leaving = self.is_draining = False
        self.exchanges: list[FakeExchange] = []
        self.refusals: list[errors.HubError] = []
        self.handed: list[bytes] = []
        self.events: list[str] = []

    @property
    def application(self) -> FakeHost:
        return self

    def begin(self, front: Front, request: Request) -> FakeExchange:
        self.exchanges.append(FakeExchange(front, request))
        return self.exchanges[-1]

    def refused(self, peer: str, error: errors.HubError, request: Request | None) -> str:
        self.refusals.append(error)
        return "id-1"

    def opened(self, connection: EdgeConnection) -> None:
        self.events.append("opened")

    def matured(self, connection: EdgeConnection) -> None:
        connection.is_young = False
        self.events.append("matured")

    def closed(self, connection: EdgeConnection) -> None:
        self.events.append("closed")

    def hand_over(
        self, connection: EdgeConnection, transport: object, request: Request, received: bytes, head_bytes: int
    ) -> None:
        self.handed.append(received)


class Wire:
    def __init__(self, *, is_tls: bool = False) -> None:
        self.host = FakeHost()
        self.transport = FakeTransport()
        self.connection = EdgeConnection(cast(Any, self.host), asyncio.get_running_loop(), "1.2.3.4:5", is_tls=is_tls)
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def feed(self, data: bytes) -> FakeExchange:
        self.connection.data_received(data)
        return self.host.exchanges[-1]

    def answer(self) -> None:
        exchange = self.host.exchanges[-1]
        exchange.front.write(b"answer ")
        exchange.front.finish(is_reusable=True)
