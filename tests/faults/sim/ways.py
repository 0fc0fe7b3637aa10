"""The network between an agent and the hub: two directions that keep order and lose nothing while the connection
lives, as TCP does, but may stand still, be slow, or die with or without a word."""

import asyncio
import collections
import dataclasses
import random
from collections.abc import Callable

from proto.aio.inbox import Receiver

KERNEL_BYTES = 128 * 1024
"""What a socket takes before its writer waits."""


@dataclasses.dataclass
class Weather:
    """What one direction does to what is sent from now on. Seconds."""

    delay: float = 0.001
    jitter: float = 0.0
    rate: float = 50e6
    held_until: float = 0.0
    """Nothing arrives before: silence, for a while or for ever."""


class End:
    """One end of a connection: a proto.aio.transport.Transport that is bound at once."""

    def __init__(self, connection: "Connection", peer: str) -> None:
        self._connection = connection
        self.peer = peer
        self.receiver: Receiver | None = None
        self.on_way: collections.deque[tuple[float, bytes | Exception]] = collections.deque()
        """What comes to this end, and when."""
        self.pending = 0
        """Bytes among it."""
        self.free_at = self.frozen_until = 0.0
        self.is_over = self._was_full = False
        self._timer: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.Future[None] | None = None

    @property
    def other(self) -> "End":
        return self._connection.other(self)

    @property
    def is_writable(self) -> bool:
        return self.other.pending <= KERNEL_BYTES

    def bind(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.arm()

    async def send(self, message: bytes) -> None:
        raise NotImplementedError("the handshake is not simulated")

    async def receive(self) -> bytes:
        raise NotImplementedError("the handshake is not simulated")

    def write(self, message: bytes) -> None:
        if not self.is_over and not self.other.is_over:
            self._was_full = self._was_full or self.other.pending + len(message) > KERNEL_BYTES
            self._connection.carry(self.other, message)

    def abort(self) -> None:
        """Also what a killed process's kernel does: the other end hears of it, if anything gets there."""
        if not self.is_over:
            self.is_over = True
            self._cancel()
            self._connection.carry(self.other, ConnectionResetError("reset by peer"))

    def reset(self) -> None:
        self.abort()

    def vanish(self) -> None:
        """This end hears that the connection is gone; the other end does not."""
        if not self.is_over:
            self.is_over = True
            self._cancel()
            if self.receiver is not None:
                asyncio.get_running_loop().call_soon(self.receiver.transport_lost, ConnectionResetError("forgotten"))

    async def close(self, code: int, reason: str) -> None:
        """As a WebSocket: until the other end has said goodbye too, which the link waits for only so long."""
        self._goodbye = asyncio.get_running_loop().create_future()
        self._connection.carry(self.other, EOFError())
        await self._goodbye

    def arm(self) -> None:
        """Deliver what is next when it is due; frozen or held it is later."""
        if self._timer is None and self.on_way and self.receiver is not None and not self.is_over:
            loop = asyncio.get_running_loop()
            held = self._connection.weather[self].held_until
            self._timer = loop.call_at(max(self.on_way[0][0], self.frozen_until, held), self._deliver)

    def again(self) -> None:
        """The weather has changed."""
        self._cancel()
        self.arm()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deliver(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        held = max(self.frozen_until, self._connection.weather[self].held_until)
        while self.on_way and self.on_way[0][0] <= now >= held and not self.is_over and self.receiver is not None:
            what = self.on_way.popleft()[1]
            if isinstance(what, Exception):
                self._end(what)
                return
            self.pending -= len(what)
            self._connection.delivered(self)
            self.receiver.message_received(what)
        self.arm()

    def _end(self, error: Exception) -> None:
        assert self.receiver is not None
        self.is_over = True
        if self._goodbye is None:
            if isinstance(error, EOFError):
                self._connection.carry(self.other, EOFError())
            self.receiver.transport_lost(error)
        elif not self._goodbye.done():
            self._goodbye.set_result(None)

    def has_room(self) -> None:
        """The other end has read."""
        if self._was_full and self.is_writable and self.receiver is not None and not self.is_over:
            self._was_full = False
            asyncio.get_running_loop().call_soon(self.receiver.transport_writable)


class Connection:
    """Two ends. `watch` is told of each message that arrives, before it is handled."""

    def __init__(self, dice: random.Random, weather: tuple[Weather, Weather], watch: Callable[[End], None]) -> None:
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self.hub, self.agent = End(self, "agent"), End(self, "hub")
        self.weather = {self.hub: weather[0], self.agent: weather[1]}
        """By the end to which it goes."""
        self._watch = watch

    def other(self, end: End) -> End:
        return self.agent if end is self.hub else self.hub

    def carry(self, to: End, what: bytes | Exception) -> None:
        weather, now = self.weather[to], self._loop.time()
        size = len(what) if isinstance(what, bytes) else 0
        to.free_at = max(to.free_at, now) + size / weather.rate
        arrival = to.free_at + weather.delay + self._dice.random() * weather.jitter
        if to.on_way:
            arrival = max(arrival, to.on_way[-1][0])
        to.on_way.append((arrival, what))
        to.pending += size
        to.arm()

    def delivered(self, to: End) -> None:
        self._watch(to)
        self.other(to).has_room()

    def changed(self) -> None:
        """The weather has."""
        self.hub.again()
        self.agent.again()
