"""Two sessions in memory: explicit pump(), a clock that only `advance` moves, loss and raw bytes on demand.

pair = Pair()
stream = pair.hub.get("/version")
pair.pump()
assert pair.agent.last(events.StreamOpened).message.path == b"/version"
"""

from typing import TypeVar

from proto import events, frames, messages
from proto.events import Event
from proto.handshake import AgentHandshake, HubHandshake, Negotiated
from proto.limits import Limits
from proto.messages import StreamClass, StreamKind
from proto.session import Role, Session
from proto.stream import Stream
from proto.window import Budget

_E = TypeVar("_E", bound=Event)

NONCE = bytes(range(32))
INSTANCE = bytes(range(16))
OK = messages.HttpHead(status=200, headers=((b"content-type", b"text/plain"),))


def shake(hub_limits: Limits | None = None, agent_limits: Limits | None = None) -> tuple[Negotiated, Negotiated]:
    """Run the handshake between default peers; return what each side negotiated."""
    hub = HubHandshake("hub-1", NONCE, hub_limits or Limits())
    agent = AgentHandshake("cluster", INSTANCE, 1, agent_limits or Limits())
    agent.receive_hello(hub.hello())
    hub.receive(agent.auth(messages.Credential(scheme="bearer", value=b"secret")))
    agent.receive_answer(hub.welcome(hub.make_welcome("session-1", "demo")))
    return hub.negotiated, agent.negotiated


class Side:
    """One session of a pair, with the log of its events."""

    def __init__(self, pair: "Pair", session: Session) -> None:
        self.pair = pair
        self.session = session
        self.log: list[Event] = []
        self.sent: list[bytes] = []
        """Every message that left."""

    @property
    def now(self) -> float:
        return self.pair.now

    def request(
        self,
        method: str,
        path: str = "/x",
        *,
        end: bool = False,
        cls: StreamClass = StreamClass.NORMAL,
        upgrade: str = "",
        is_long: bool = False,
    ) -> Stream:
        message = messages.HttpRequest(method=method, path=path.encode(), headers=(), upgrade=upgrade)
        return self.session.open_stream(message, kind=StreamKind.HTTP, cls=cls, end=end, is_long=is_long, now=self.now)

    def get(self, path: str = "/x", cls: StreamClass = StreamClass.NORMAL, *, is_long: bool = False) -> Stream:
        return self.request("GET", path, end=True, cls=cls, is_long=is_long)

    def dial(self, cls: StreamClass = StreamClass.NORMAL) -> Stream:
        message = messages.TcpTarget(host="kubernetes", port=443)
        return self.session.open_stream(message, kind=StreamKind.TCP, cls=cls, now=self.now)

    def head(self, stream: Stream, head: messages.HttpHead = OK, *, end: bool = False) -> None:
        self.session.send_head(stream, head, end=end, now=self.now)

    def send(self, stream: Stream, data: bytes, *, end: bool = False) -> bool:
        return self.session.send(stream, data, end=end, now=self.now)

    def collect(self) -> None:
        self.log += self.session.events()

    def all(self, kind: type[_E]) -> list[_E]:
        self.collect()
        return [event for event in self.log if isinstance(event, kind)]

    def last(self, kind: type[_E]) -> _E:
        found = self.all(kind)
        assert found, f"no {kind.__name__} in {self.log}"
        return found[-1]

    def taken(self) -> Stream:
        """Return the stream that the peer opened last."""
        return self.last(events.StreamOpened).stream

    def body(self, stream: Stream) -> bytes:
        return b"".join(bytes(event.data) for event in self.all(events.DataReceived) if event.stream is stream)

    def receive(self, *found: bytes) -> None:
        """Hand frames to the session as one message of its peer."""
        self.session.receive(b"".join(found), self.now)
        self.collect()

    def flush(self) -> list[tuple[int, int, int, bytes]]:
        """Return the frames that wait in the outbox, without delivering them."""
        found: list[tuple[int, int, int, bytes]] = []
        while self.session.has_output:
            message = self.session.outbox(self.now)
            self.session.written()
            if message:
                found += frames.split(message)
        self.collect()
        return found

    def said(self, kind: frames.FrameType) -> list[tuple[int, int, int, bytes]]:
        """Return the frames of one type that wait in the outbox, and drop the others."""
        return [frame for frame in self.flush() if frame[0] == kind]


class Pair:
    """A hub's and an agent's session, connected by nothing but `pump`."""

    def __init__(
        self,
        hub_limits: Limits | None = None,
        agent_limits: Limits | None = None,
        *,
        budget: Budget | None = None,
        last_stream_id: int = 2**30,
    ) -> None:
        self.now = 1000.0
        one, two = shake(hub_limits, agent_limits)
        self.hub = Side(self, Session(Role.HUB, one, hub_limits, budget=budget, last_stream_id=last_stream_id))
        self.agent = Side(self, Session(Role.AGENT, two, agent_limits, last_stream_id=last_stream_id))
        self.hub.session.start(self.now)
        self.agent.session.start(self.now)

    def move(self, source: Side, target: Side) -> bool:
        """Move one message; tell whether there was one."""
        message = source.session.outbox(self.now)
        source.session.written()
        source.collect()
        if not message:
            return False
        source.sent.append(message)
        target.session.receive(message, self.now)
        target.collect()
        return True

    def pump(self) -> None:
        """Move messages both ways until both sides are quiet."""
        for _ in range(100_000):
            moved = False
            for source, target in ((self.hub, self.agent), (self.agent, self.hub)):
                if source.session.has_output:
                    moved = self.move(source, target) or moved
            if not moved:
                return
        raise AssertionError("the pair never comes to rest")

    def advance(self, seconds: float, *, pump: bool = True) -> None:
        """Let time pass in steps of the sessions' own timers."""
        end = self.now + seconds
        while self.now < end:
            due = min(side.session.next_timer(self.now) for side in (self.hub, self.agent))
            self.now = min(max(due, self.now + 0.001), end)
            for side in (self.hub, self.agent):
                side.session.handle_timer(self.now)
                side.collect()
            if pump:
                self.pump()

    def consume(self, side: Side) -> None:
        """Let a side's consumer take everything that arrived."""
        for event in side.all(events.DataReceived):
            side.session.consumed(event.stream, event.stream.buffered)


def measured(shortest_s: float, recent_s: float, budget: Budget | None = None, *, limits: Limits | None = None) -> Pair:
    """A pair whose first answer to a ping took the hub `shortest_s`, and the best of the recent ones `recent_s`."""
    pair = Pair(limits, budget=budget)
    ping = pair.hub.session.outbox(pair.now)
    pair.now += shortest_s
    pair.agent.session.receive(ping, pair.now)
    pair.pump()
    pair.hub.session.liveness.best_rtt_s = recent_s
    return pair


def answer_all(pair: Pair, *sizes: int) -> None:
    """The agent answers each stream that the hub has opened since, with so many bytes; one size is for all."""
    pair.pump()
    opened = [event.stream for event in pair.agent.all(events.StreamOpened) if not event.stream.is_answered]
    for stream, size in zip(opened, sizes if len(sizes) > 1 else sizes * len(opened), strict=True):
        pair.agent.head(stream)
        pair.agent.send(stream, b"x" * size)
    pair.pump()
