"""An agent in virtual time: the real link and session, and a stand-in for what executes the requests."""

import asyncio
import contextlib
import dataclasses
import datetime
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hub.auth.agents import AgentIdentity
from hub.tunnel.registry import ClusterFacts, Refusal, Tunnel
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.aio.tasks import TaskGroup
from proto.backoff import Backoff
from proto.errors import Code
from proto.limits import Limits
from proto.messages import Headers, HttpHead, HttpRequest, Opening, StreamClass, StreamKind
from proto.session import Role, Session
from tests.faults.sim.programs import Feed, Program
from tests.faults.sim.ways import Connection, Weather
from tests.proto.pair import shake

if TYPE_CHECKING:
    from tests.faults.sim.world import World

PIECE_BYTES = 16 * 1024
WALL = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class AgentLink(Link):
    """A link of a process that may stand still (SIGSTOP): its timers and its writing wait, its clock goes on."""

    frozen_until = 0.0

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() < self.frozen_until:
            self._timer = loop.call_at(self.frozen_until, self._on_timer, loop)
        else:
            super()._on_timer(loop)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self.frozen_until:
            loop.call_at(self.frozen_until, self._flush)
        else:
            super()._flush()


class Execution:
    """One request at the API server: takes its body, thinks, answers with the body that its path asks for."""

    def __init__(self, agent: "Agent", stream: LinkStream, request: HttpRequest) -> None:
        self._agent = agent
        self._stream = stream
        self._request = request
        self._body = bytearray()
        self._left = b""
        self._is_dead = False
        _, _, self.name, size, think = request.path.decode().partition("?")[0].split("/")
        self._size, self._think = int(size), float(think)
        if not stream.is_bodiless:
            stream.accept()

    def accepted(self, message: Any) -> None: ...
    def head(self, message: HttpHead) -> None: ...
    def trailers(self, headers: Headers) -> None: ...

    def data(self, chunk: memoryview) -> None:
        self._body += chunk
        self._stream.consumed(len(chunk))

    def end(self) -> None:
        if not self._stream.is_closed:
            self._execute()

    def reset(self, code: Code, text: str) -> None:
        self._is_dead = True

    def writable(self) -> None:
        self._send()

    def _execute(self) -> None:
        self._agent.world.executed(self.name, self._request.method, bytes(self._body))
        self._agent.later(self._think, self._answer)

    def _answer(self) -> None:
        if self._is_dead or self._stream.is_closed:
            return
        length = (b"content-length", b"%d" % self._size)
        self._left = self._agent.world.body(self.name, self._size)
        self._stream.head(HttpHead(status=200, headers=((b"content-type", b"application/json"), length)))
        self._send()

    def _send(self) -> None:
        while self._left and not self._is_dead and not self._stream.is_closed:
            piece, self._left = self._left[:PIECE_BYTES], self._left[PIECE_BYTES:]
            if not self._stream.send(piece, end=not self._left):
                return


@dataclasses.dataclass
class Agent:
    """An instance, its network, and the sessions it has had. `is_spared`: nothing is ever done to it."""

    world: "World"
    name: str
    role: str
    dice: random.Random
    is_spared: bool = False
    instance: bytes = b""
    epoch: int = 0
    weather: tuple[Weather, Weather] = dataclasses.field(default_factory=lambda: (Weather(), Weather()))
    """To the hub, and from it."""
    life: TaskGroup | None = None
    """Of the process."""
    connections: list[Connection] = dataclasses.field(default_factory=list)
    links: list[AgentLink] = dataclasses.field(default_factory=list)
    frozen_until: float = 0.0

    def start(self) -> None:
        """A new process."""
        self.instance, self.epoch = self.dice.randbytes(16), 0
        self.life = TaskGroup(f"agent {self.name}")
        self.life.spawn(self._run(), name="uplink")

    async def kill(self) -> None:
        """SIGKILL: what it knew is gone, its kernel resets the connections."""
        life, self.life = self.life, None
        for connection in self.connections:
            connection.agent.abort()
        if life is not None:
            await life.aclose()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after that."""
        until = self.world.now() + seconds
        self.frozen_until = until
        for connection in self.connections:
            connection.agent.frozen_until = until
            connection.agent.again()
        for link in self.links:
            link.frozen_until = until

    def hold(self, seconds: float, *, to_hub: bool, to_agent: bool) -> None:
        """The network is silent for so long."""
        until = self.world.now() + seconds
        for weather, is_held in zip(self.weather, (to_hub, to_agent), strict=True):
            if is_held:
                weather.held_until = max(weather.held_until, until)
        for connection in self.connections:
            connection.changed()

    def reset(self) -> None:
        """Somebody in between breaks the connections."""
        for connection in tuple(self.connections):
            connection.agent.abort()
            connection.hub.abort()
            for end in (connection.hub, connection.agent):
                if end.receiver is not None:
                    asyncio.get_running_loop().call_soon(end.receiver.transport_lost, ConnectionResetError("reset"))

    async def drain(self) -> None:
        """SIGTERM: another process is there first."""
        for link in tuple(self.links):
            if link.is_open:
                link.send_drain(20.0, Code.CLOSED, "the agent is shutting down")

    def half_open(self, seconds: float) -> None:
        """A NAT forgets the connections: the agent hears of it within a second and comes back, the hub does not. What
        the agent has said meanwhile arrives so much later, when a newer session of this instance may be open."""
        until = self.world.now() + self.dice.choice([1.5, 2.5, seconds])  # soon enough to meet the hub's goodbye
        for connection in tuple(self.connections):
            weather = connection.weather[connection.hub]
            connection.weather[connection.hub] = dataclasses.replace(weather, held_until=until)
            connection.hub.again()
            asyncio.get_running_loop().call_later(self.dice.random(), connection.agent.vanish)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """The API server answers; a process that stands still reads it later, a dead one never."""
        life, loop = self.life, asyncio.get_running_loop()

        def come() -> None:
            if self.life is not life:
                return
            if loop.time() < self.frozen_until:
                loop.call_at(self.frozen_until, come)
            else:
                call()

        loop.call_later(seconds, come)

    @property
    def _unreachable_s(self) -> float:
        """How long no connection can be made."""
        until = max(self.frozen_until, *(weather.held_until for weather in self.weather))
        return max(until - self.world.now(), 0.0)

    # The uplink

    async def _run(self) -> None:
        backoff = Backoff(self.dice.random)
        while True:
            await asyncio.sleep(self._unreachable_s)
            await self._session()
            await asyncio.sleep(backoff.delay(self.world.now()))

    async def _session(self) -> None:
        """One session, until its agent's side ends or drains: then the next one is opened beside it."""
        world = self.world
        self.epoch += 1
        connection = Connection(self.dice, self.weather, world.arrived)
        hub_negotiated, agent_negotiated = shake()
        budget = world.budget
        hub_link = Link(
            Session(Role.HUB, hub_negotiated, Limits(), budget=budget),
            connection.hub,
            on_open=lambda *_: None,
            on_drain=lambda _: world.agent_drains(tunnel),
            on_end=lambda: world.registry.remove(tunnel),
            name=f"{self.name}/{self.instance.hex()[:8]}",
            observer=world.observer,
            clock=world.now,
        )
        link = AgentLink(
            Session(Role.AGENT, agent_negotiated, Limits()),
            connection.agent,
            on_open=self._on_open,
            name=f"{self.name}/{self.instance.hex()[:8]}",
            clock=world.now,
        )
        identity = AgentIdentity(
            "uid-c1", "c1", self.name, self.role, node=self.name if self.role == "node" else "",
            is_fallback=self.role == "node",
        )  # fmt: skip
        tunnel = Tunnel(
            identity,
            self.instance,
            self.epoch,
            hub_link,
            "peer",
            "0",
            ClusterFacts("v1"),
            WALL,
            f"{self.name}-{self.epoch}",
        )
        olds = [each.link for each in world.registry if each.instance == self.instance and not each.link.is_draining]
        try:
            world.registry.add(tunnel)
        except Refusal:
            return
        for old in olds:
            world.fenced(old)
        self.connections.append(connection)
        self.links.append(link)
        world.drives(tunnel)
        try:
            world.ended(link, await link.run())
        finally:
            with contextlib.suppress(ValueError):
                self.links.remove(link)
                self.connections.remove(connection)

    def _on_open(self, stream: LinkStream, kind: StreamKind, cls: StreamClass, message: Opening) -> StreamOwner | None:
        assert isinstance(message, HttpRequest)
        if message.upgrade:
            return Program(self, stream, message)
        if b"watch=1" in message.path:
            return Feed(self, stream, message)
        return Execution(self, stream, message)
