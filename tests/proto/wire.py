"""Two sessions over a link that is made of numbers: rate, delay, buffers, and directions that go dead. Virtual time.

wire = Wire(hub_to_agent=Direction(rate=8.4e6, delay=0.025), agent_to_hub=Direction(rate=8.4e6, delay=0.025))
wire.run(10.0)

A direction is a pipe with two buffers: what the sender's kernel takes off its hands (`kernel`), after which its writer
waits, and what lies on the way. Messages keep their order and are never lost: like TCP, a dead direction holds them.
"""

import collections
import dataclasses
from collections.abc import Callable

from proto.events import EndReason, SessionEnded
from tests.proto.pair import Pair, Side

NEVER = float("inf")


@dataclasses.dataclass
class Direction:
    """One way of the link. Rate in bytes a second, delay in seconds, kernel in bytes."""

    rate: float = NEVER
    delay: float = 0.0
    kernel: int = 256 * 1024
    dead_from: float = NEVER
    """From this time on (seconds since the start of the wire) nothing arrives."""
    dead_until: float = NEVER
    free_at: float = 0.0
    carried: int = 0
    """Bytes that arrived."""
    on_way: collections.deque[tuple[float, float, bytes | None]] = dataclasses.field(default_factory=collections.deque)
    """(when its last byte has left the sender's kernel, when it arrives, message; None is the end)"""

    def is_dead(self, at: float) -> bool:
        return self.dead_from <= at < self.dead_until

    def write(self, now: float, message: bytes | None) -> None:
        size = len(message) if message is not None else 0
        start = max(self.free_at, now)
        if self.is_dead(start):
            start = self.dead_until
        self.free_at = start + size / self.rate
        arrival = self.free_at + self.delay
        if self.on_way:
            arrival = max(arrival, self.on_way[-1][1])
        self.on_way.append((self.free_at, arrival, message))

    def queue_s(self, now: float) -> float:
        """Return how long a byte written now waits before it leaves."""
        return max(self.free_at - now, 0.0)

    def ready_at(self, now: float) -> float:
        """When the kernel takes the next message: as soon as it holds no more than its share."""
        return max(now, self.free_at - self.kernel / self.rate) if self.free_at < NEVER else NEVER


class Wire:
    """A pair of sessions and the two directions between them."""

    def __init__(self, pair: Pair, *, hub_to_agent: Direction, agent_to_hub: Direction) -> None:
        self.pair = pair
        self.start = pair.now
        self.ways: dict[Side, tuple[Direction, Side]] = {
            pair.hub: (hub_to_agent, pair.agent),
            pair.agent: (agent_to_hub, pair.hub),
        }
        for direction, _ in self.ways.values():
            direction.dead_from += self.start
            direction.dead_until += self.start
        self._blocked: dict[Side, float] = {}
        self.ended_at: dict[Side, float] = {}
        self.every: Callable[[], None] = lambda: None
        """Called after each step."""

    @property
    def elapsed(self) -> float:
        return self.pair.now - self.start

    def reason(self, side: Side) -> EndReason:
        return side.last(SessionEnded).reason

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.pair.now + seconds
        self._flush()
        while (due := self._next()) <= end:
            self.pair.now = max(due, self.pair.now)
            self._deliver()
            for side in self.ways:
                if side.session.is_open and side.session.next_timer(self.pair.now) <= self.pair.now:
                    side.session.handle_timer(self.pair.now)
            self._flush()
            self.every()
        self.pair.now = end

    def _next(self) -> float:
        now = self.pair.now
        found = [NEVER, *self._blocked.values()]
        for side, (direction, _) in self.ways.items():
            if direction.on_way:
                found.append(direction.on_way[0][1])
            if side.session.is_open:
                found.append(max(side.session.next_timer(now), now + 1e-6))
        return min(found)

    def _deliver(self) -> None:
        now = self.pair.now
        for direction, target in self.ways.values():
            while direction.on_way and direction.on_way[0][1] <= now:
                message = direction.on_way.popleft()[2]
                if message is None:
                    target.session.receive_eof()
                else:
                    direction.carried += len(message)
                    target.session.receive(message, now)
                target.collect()

    def _flush(self) -> None:
        now = self.pair.now
        for side, (direction, _) in self.ways.items():
            if self._blocked.get(side, NEVER) <= now:
                del self._blocked[side]
                side.session.written()
            while side not in self._blocked and side.session.has_output:
                message = side.session.outbox(now)
                if not message:
                    side.session.written()
                    continue
                side.sent.append(message)
                direction.write(now, message)
                self._blocked[side] = direction.ready_at(now)
                if self._blocked[side] <= now:
                    del self._blocked[side]
                    side.session.written()
            side.collect()
            if not side.session.is_open and side not in self.ended_at:
                self.ended_at[side] = now - self.start
                direction.write(now, None)
