"""What lives behind an API server for longer than an answer: the events of a watch, and a program in a pod."""

import functools
import random
from typing import TYPE_CHECKING, Any

from proto.aio.linkstream import LinkStream
from proto.errors import Code
from proto.messages import Headers, HttpHead, HttpRequest

if TYPE_CHECKING:
    from tests.faults.sim.agent import Agent

EVENT_S = 2.0
"""Something happens so often, to every object alike."""
LARGE_BYTES = 1000
"""An event from here on leaves its API server in two parts."""
QUIT = b"quit\n"
"""The program ends when it reads this."""


def version(now: float) -> int:
    """How many events there have been."""
    return int(now / EVENT_S)


@functools.lru_cache(maxsize=1024)
def event(name: str, number: int) -> bytes:
    """One event of a watch as it is sent, its line feed included."""
    size = random.Random(f"{name}/{number}").choice([10, 10, 3_000, 60_000])
    return b'{"type":"ADDED","number":%d,"pad":"%b"}\n' % (number, b"x" * size)


class _Served:
    """Owner of a stream at the agent."""

    def __init__(self, agent: "Agent", stream: LinkStream) -> None:
        self._agent = agent
        self._stream = stream
        self._is_dead = False

    @property
    def is_over(self) -> bool:
        return self._is_dead or self._stream.is_closed

    def accepted(self, message: Any) -> None: ...
    def head(self, message: HttpHead) -> None: ...
    def trailers(self, headers: Headers) -> None: ...
    def end(self) -> None: ...
    def writable(self) -> None: ...

    def data(self, chunk: memoryview) -> None:
        self._stream.consumed(len(chunk))

    def reset(self, code: Code, text: str) -> None:
        self._is_dead = True


class Feed(_Served):
    """The events of one watch behind the version that its query names."""

    def __init__(self, agent: "Agent", stream: LinkStream, request: HttpRequest) -> None:
        super().__init__(agent, stream)
        path, _, query = request.path.decode().partition("?")
        self._name = path.rpartition("/")[2]
        self._next = int(query.partition("resourceVersion=")[2]) + 1
        self._rest = b""
        self._life = agent.life
        stream.head(HttpHead(status=200, headers=((b"content-type", b"application/json"),)))
        agent.world.feeds[self] = None

    def tick(self) -> None:
        """Called every now and then; a process that stands still goes on later."""
        agent = self._agent
        if self.is_over or agent.life is not self._life:
            agent.world.feeds.pop(self, None)
        elif agent.world.now() < agent.frozen_until:
            return
        elif self._rest:
            self._stream.send(self._rest)
            self._rest = b""
            self._next += 1
        elif self._next <= version(agent.world.now()):
            self._begin(event(self._name, self._next))

    def _begin(self, what: bytes) -> None:
        if len(what) < LARGE_BYTES:
            self._stream.send(what)
            self._next += 1
        else:
            half = len(what) // 2
            self._rest = what[half:]
            self._stream.send(what[:half])


class Program(_Served):
    """What an exec runs: it says again what it is told, until it is told to quit."""

    def __init__(self, agent: "Agent", stream: LinkStream, request: HttpRequest) -> None:
        super().__init__(agent, stream)
        agent.world.ran(request.path.decode().split("/")[-2])
        self._heard = bytearray()
        stream.head(HttpHead(status=101, headers=()))

    def data(self, chunk: memoryview) -> None:
        super().data(chunk)
        if not self.is_over:
            self._heard += chunk
            self._stream.send(bytes(chunk), end=self._heard.endswith(QUIT))

    def end(self) -> None:
        """Its user has gone."""
        if not self.is_over and not self._heard.endswith(QUIT):
            self._stream.end()
