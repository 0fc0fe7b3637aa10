"""A scripted owner, and two links over a pipe."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Self

from proto import messages
from proto.aio.busypoll import Leg
from proto.aio.link import EndReason, Link, LinkStream
from proto.aio.owner import LinkObserver
from proto.aio.tasks import TaskGroup
from proto.aio.transport import PipeEnd, pipe
from proto.errors import Code
from proto.limits import Limits
from proto.messages import Accepted, Headers, HttpHead, StreamClass, StreamKind
from proto.session import Role, Session
from tests.proto.pair import shake

GET = messages.HttpRequest(method="GET", path=b"/x", headers=())
POST = messages.HttpRequest(method="POST", path=b"/x", headers=())


class Owner:
    """Records what it is told; `consumes` returns credit at once, `raises` names the calls that fail."""

    def __init__(self, *, consumes: bool = True, raises: tuple[str, ...] = ()) -> None:
        self.stream: LinkStream | None = None
        self.log: list[str] = []
        self.body = b""
        self.fate: tuple[Code, str] | None = None
        self.status = 0
        self.done = asyncio.Event()
        self._consumes = consumes
        self._raises = raises

    def _note(self, call: str) -> None:
        self.log.append(call)
        if call in self._raises:
            raise RuntimeError(f"{call} is broken")

    def accepted(self, message: Accepted) -> None:
        self._note("accepted")

    def head(self, message: HttpHead) -> None:
        self.status = message.status
        self._note("head")

    def data(self, chunk: memoryview) -> None:
        self._note("data")
        self.body += chunk
        if self._consumes and self.stream is not None:
            self.stream.consumed(len(chunk))

    def trailers(self, headers: Headers) -> None:
        self._note("trailers")

    def end(self) -> None:
        self._note("end")
        self.done.set()

    def reset(self, code: Code, text: str) -> None:
        self.fate = (code, text)
        self.done.set()
        self._note("reset")

    def writable(self) -> None:
        self._note("writable")


@dataclasses.dataclass
class Counts:
    """An observer that keeps everything."""

    log: list[tuple[object, ...]] = dataclasses.field(default_factory=list)

    def bytes(self, direction: str, cls: StreamClass, n: int) -> None:
        self.log.append(("bytes", direction, cls, n))

    def opened(self, kind: StreamKind, cls: StreamClass) -> None:
        self.log.append(("opened", kind, cls))

    def closed(self, kind: StreamKind, cls: StreamClass) -> None:
        self.log.append(("closed", kind, cls))

    def rtt(self, seconds: float) -> None:
        self.log.append(("rtt", seconds))

    def open_latency(self, kind: StreamKind, seconds: float) -> None:
        self.log.append(("open_latency", kind, seconds))

    def stalled(self, seconds: float, *, begins: bool) -> None:
        self.log.append(("stalled", begins))

    def refused(self, reason: str) -> None:
        self.log.append(("refused", reason))

    def late(self, code: Code, n: int) -> None:
        self.log.append(("late", code, n))


class Wire:
    """Hub and agent, linked. The agent's owners are made by `owner`, which tests replace."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        observer: LinkObserver | None = None,
        transports: tuple[PipeEnd, PipeEnd] | None = None,
        leg: Leg | None = None,
    ) -> None:
        one, two = shake(limits, limits)
        self.ends = transports or pipe()
        self.taken: list[Owner] = []
        self.drains: list[str] = []
        self.messages: list[tuple[int, bytes]] = []
        self.owner: Callable[[], Owner] = Owner
        self.hub = Link(
            Session(Role.HUB, one, limits),
            self.ends[0],
            on_open=lambda stream, *_: stream.reset(Code.REFUSED),
            name="hub",
            observer=observer,
            on_drain=lambda event: self.drains.append(event.text),
            on_message=lambda topic, body: self.messages.append((topic, body)),
            leg=leg,
        )
        self.agent = Link(Session(Role.AGENT, two, limits), self.ends[1], on_open=self._take, name="agent")
        self.group = TaskGroup("wire")

    def _take(self, stream: LinkStream, kind: StreamKind, cls: StreamClass, message: messages.Opening) -> Owner | None:
        owner = self.owner()
        owner.stream = stream
        self.taken.append(owner)
        return owner

    async def __aenter__(self) -> Self:
        self.hub_run = self.group.spawn(self.hub.run(), name="hub")
        self.agent_run = self.group.spawn(self.agent.run(), name="agent")
        await self.rest()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.group.aclose()
        for owner in self.taken:
            assert owner.fate is not None or owner.stream is None or owner.stream.is_closed

    async def rest(self) -> None:
        """Let everything that is ready run."""
        for _ in range(50):
            await asyncio.sleep(0)

    def open(self, message: messages.Opening = GET, *, owner: Owner | None = None, end: bool = True) -> Owner:
        owner = owner or Owner()
        owner.stream = self.hub.open(message, owner, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=end)
        return owner

    async def ends_with(self, run: "asyncio.Task[EndReason]") -> EndReason:
        async with asyncio.timeout(30):
            return await run


def handle(owner: Owner) -> LinkStream:
    assert owner.stream is not None
    return owner.stream


OK = HttpHead(status=200, headers=())


def tapped(end: PipeEnd, note: Callable[[bytes], None]) -> PipeEnd:
    """The same end of a pipe; `note` hears each message that is written to it."""

    class Tapped(PipeEnd):
        __slots__ = ()

        def write(self, message: bytes) -> None:
            note(message)
            super().write(message)

    return Tapped(end._in, end._out, end._limit, end.peer)
