"""The agent's side of a worker: a link that is no link, whose streams record what they are told."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Callable
from types import ModuleType
from typing import cast

import pytest

from hub.auth.agents import AgentIdentity
from hub.tunnel.registry import ClusterFacts, Tunnel
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.errors import Code
from proto.messages import Accepted, Headers, HttpHead, HttpRequest, Opening, StreamClass, StreamKind
from proto.window import CREDIT_MAX

WALL = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)
GET = HttpRequest(method="GET", path=b"/version", headers=())
POST = HttpRequest(method="POST", path=b"/things", headers=())


async def until(true: Callable[[], object]) -> None:
    """Let the loop run until `true()` is. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 whatever becomes true has no event
            await asyncio.sleep(0)


class FakeStream:
    """As much of a LinkStream as a half touches."""

    def __init__(self, owner: StreamOwner | None = None, *, is_bodiless: bool = False) -> None:
        self.owner = owner
        self.id = 2
        self.is_bodiless = is_bodiless
        self.has_room = True
        self.told: list[object] = []
        self.credit = 0
        self.window = 256 * 1024

    @property
    def has_ended(self) -> bool:
        return "end" in self.told

    def accept(self, message: Accepted) -> None:
        self.told.append("accept")

    def head(self, message: HttpHead) -> None:
        self.told.append(message.status)

    def send(self, data: bytes) -> bool:
        self.told.append(data)
        return self.has_room

    def trailers(self, headers: Headers) -> None:
        self.told.append(headers)

    def end(self) -> None:
        self.told.append("end")

    def reset(self, code: Code, text: str = "") -> None:
        self.told.append(code)

    def consumed(self, size: int) -> None:
        self.credit += size


class FakeLink:
    """A tunnel's link. `refuses`: what `open` raises."""

    def __init__(self, now: Callable[[], float] = lambda: 100.0) -> None:
        self.clock = now
        self.name = "alpha/01010101"
        self.is_open = True
        self.is_draining = False
        self.last_received_at = now()
        self.unanswered_ping_at: float | None = None
        self.rtt_s = 0.02
        self.compresses = True
        self.queued_bytes = 0
        self.refuses: Exception | None = None
        self.opened: list[tuple[Opening, bool]] = []
        self.made: list[FakeStream] = []
        self.probes: list[Callable[[bool], None]] = []
        self.closed_with: Code | None = None
        self.on_end: Callable[[], object] = lambda: None

    @property
    def streams(self) -> int:
        return len(self.made)

    @property
    def may_open(self) -> bool:
        return self.is_open

    def open(
        self,
        message: Opening,
        owner: StreamOwner,
        *,
        kind: StreamKind,
        cls: StreamClass,
        end: bool = False,
        window: int = CREDIT_MAX,
        is_long: bool = False,
    ) -> LinkStream:
        if self.refuses is not None:
            raise self.refuses
        self.opened.append((message, end))
        self.made.append(FakeStream(owner))
        self.made[-1].window = window
        return cast(LinkStream, self.made[-1])

    def probe(self, settled: Callable[[bool], None] | None = None) -> None:
        assert settled is not None
        self.probes.append(settled)

    def close(self, code: Code, text: str = "") -> None:
        self.is_open = False
        self.closed_with = code
        self.on_end()


def tunnel(link: FakeLink, *, instance: int = 1, epoch: int = 1, session_id: str = "s1") -> Tunnel:
    identity = AgentIdentity("uid-alpha", "alpha", "k", "cluster")
    return Tunnel(
        identity,
        bytes([instance]) * 16,
        epoch,
        cast(Link, link),
        "10.0.0.1:1",
        "v1",
        ClusterFacts("k1"),
        WALL,
        session_id,
    )


class FakeOwner:
    """A request: what its stream told it."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.stream: LinkStream | None = None

    @property
    def size(self) -> int:
        """Of the body so far."""
        return sum(len(part) for part in self.told if isinstance(part, bytes))

    def accepted(self, message: Accepted) -> None:
        self.told.append("accepted")

    def head(self, message: HttpHead) -> None:
        self.told.append(message.status)

    def data(self, chunk: memoryview) -> None:
        self.told.append(bytes(chunk))
        if self.stream is not None:
            self.stream.consumed(len(chunk))

    def trailers(self, headers: Headers) -> None:
        self.told.append(headers)

    def end(self) -> None:
        self.told.append("end")

    def reset(self, code: Code, text: str) -> None:
        self.told.append(code)

    def writable(self) -> None:
        self.told.append("writable")


def threads_of(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[int]:
    """From which threads a function of a module is called, from now on."""
    real, callers = getattr(module, name), list[int]()

    def called(given: object) -> object:
        callers.append(threading.get_ident())
        return real(given)

    monkeypatch.setattr(module, name, called)
    return callers
