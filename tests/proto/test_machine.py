"""Two cores against each other under random intents, partial delivery and the loss of the transport at any byte.

What must hold after every step: no exception, credit never negative, buffers within their windows, counters equal to
the tables. And at the end: every byte that arrived is a prefix of what was sent, in order; a half that ended is
complete; both sides forgot every stream.
"""

import collections
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from proto import errors, events, messages
from proto.errors import Code
from proto.limits import Limits
from proto.messages import StreamClass, StreamKind
from proto.stream import Stream
from proto.transitions import HalfState
from tests.proto.pair import OK, Pair, Side

SMALL = Limits(
    data_bytes=500,
    window_bytes=2000,
    window_max_bytes=8000,
    session_window_bytes=8000,
    streams=6,
    open_backlog=3,
    send_queue_bytes=3000,
    send_queue_low_bytes=1000,
)


class Machine(RuleBasedStateMachine):
    streams: Bundle[Any] = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(SMALL, SMALL)
        self.sent: dict[tuple[int, bool], bytearray] = collections.defaultdict(bytearray)
        self.ended: set[tuple[int, bool]] = set()
        self.arrived: dict[tuple[int, bool], bytearray] = collections.defaultdict(bytearray)
        self.arrived_end: set[tuple[int, bool]] = set()
        self.is_cut = False
        self.count = 0

    # Stream handles are (side that opened, stream); each side looks up its own object by id.

    def side(self, is_hub: bool) -> Side:
        return self.pair.hub if is_hub else self.pair.agent

    def find(self, is_hub: bool, stream_id: int) -> Stream | None:
        return self.side(is_hub).session.table.streams.get(stream_id)

    @rule(target=streams, opened_by_hub=st.booleans(), cls=st.sampled_from(StreamClass), is_post=st.booleans())
    def open(self, opened_by_hub: bool, cls: StreamClass, is_post: bool) -> Any:
        side = self.side(opened_by_hub)
        try:
            stream = side.request("POST" if is_post else "GET", end=not is_post, cls=cls)
        except (errors.TooManyStreams, errors.SessionDraining, errors.SessionLost):
            return (opened_by_hub, 0)
        if not is_post:
            self.ended.add((stream.id, opened_by_hub))
        return (opened_by_hub, stream.id)

    @rule(stream=streams, by_opener=st.booleans(), size=st.integers(0, 3000), end=st.booleans())
    def send(self, stream: tuple[bool, int], by_opener: bool, size: int, end: bool) -> None:
        is_hub = stream[0] == by_opener
        found = self.find(is_hub, stream[1])
        if found is None or found.own_half != HalfState.FLOWING or found.end_queued:
            return
        self.count += 1
        data = bytes((self.count & 0xFF,)) * size
        self.side(is_hub).send(found, data, end=end)
        self.sent[stream[1], is_hub] += data
        if end:
            self.ended.add((stream[1], is_hub))

    @rule(stream=streams, end=st.booleans())
    def head(self, stream: tuple[bool, int], end: bool) -> None:
        is_hub = not stream[0]
        found = self.find(is_hub, stream[1])
        if found is None or found.own_half not in {HalfState.AWAITED, HalfState.ACCEPTED}:
            return
        self.side(is_hub).head(found, OK, end=end)
        if end:
            self.ended.add((stream[1], is_hub))

    @rule(stream=streams)
    def accept(self, stream: tuple[bool, int]) -> None:
        found = self.find(not stream[0], stream[1])
        if found is not None:
            self.side(not stream[0]).session.accept(found, messages.Accepted())

    @rule(stream=streams, by_hub=st.booleans(), size=st.integers(1, 5000))
    def consume(self, stream: tuple[bool, int], by_hub: bool, size: int) -> None:
        found = self.find(by_hub, stream[1])
        if found is not None:
            self.side(by_hub).session.consumed(found, size)

    @rule(stream=consumes(streams), by_hub=st.booleans())
    def reset(self, stream: tuple[bool, int], by_hub: bool) -> None:
        found = self.find(by_hub, stream[1])
        if found is not None:
            self.side(by_hub).session.reset_stream(found, Code.CANCELLED, now=self.pair.now)

    @rule(from_hub=st.booleans())
    def deliver(self, from_hub: bool) -> None:
        source, target = self.side(from_hub), self.side(not from_hub)
        if source.session.has_output and not self.is_cut:
            self.pair.move(source, target)
        self.read()

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0]))
    def wait(self, seconds: float) -> None:
        self.pair.advance(seconds, pump=False)
        if not (self.pair.hub.session.is_open and self.pair.agent.session.is_open) and not self.is_cut:
            self.is_cut = (
                True  # a ping was not delivered in time: the link drops the transport, the other side hears it
            )
            self.pair.hub.session.receive_eof()
            self.pair.agent.session.receive_eof()
        self.read()

    @rule(by_hub=st.booleans())
    @precondition(lambda self: not self.is_cut)
    def drain(self, by_hub: bool) -> None:
        self.side(by_hub).session.drain(60.0, Code.DRAINING, "", now=self.pair.now)

    @rule(from_hub=st.booleans(), data=st.data())
    @precondition(lambda self: not self.is_cut)
    def cut(self, from_hub: bool, data: Any) -> None:
        """The transport dies in the middle of a message: a WebSocket delivers it whole or not at all."""
        source, target = self.side(from_hub), self.side(not from_hub)
        self.is_cut = True
        if source.session.has_output:
            message = source.session.outbox(self.pair.now)
            whole = data.draw(st.integers(0, len(message)))
            if message and whole == len(message):
                target.session.receive(message, self.pair.now)
        source.session.receive_eof()
        target.session.receive_eof()
        self.read()

    def read(self) -> None:
        for side in (self.pair.hub, self.pair.agent):
            from_hub = side is self.pair.agent
            side.collect()
            for event in side.log:
                if isinstance(event, events.DataReceived):
                    self.arrived[event.stream.id, from_hub] += event.data
                    if event.end:
                        self.arrived_end.add((event.stream.id, from_hub))
            side.log.clear()

    @invariant()
    def bounded(self) -> None:
        for side in (self.pair.hub, self.pair.agent):
            session = side.session
            assert session.end_reason is None or session.end_reason.kind is not events.EndKind.PROTOCOL
            table = session.table
            streams = table.streams.values()
            assert table.ours == sum(stream.is_ours for stream in streams) <= SMALL.streams
            assert table.theirs == sum(not stream.is_ours for stream in streams) <= SMALL.streams
            assert table.unanswered == sum(not (each.is_ours or each.is_answered) for each in streams) <= 3
            assert session.out.queued == sum(stream.queued for stream in streams)
            assert 0 <= session.credit.send_left <= SMALL.session_window_bytes
            assert session.credit.receive_left + session.credit.unreturned == SMALL.session_window_bytes
            assert session._growth.extra == sum(max(stream.window - 2000, 0) for stream in streams)
            for stream in streams:
                assert stream.send_left >= 0
                assert 0 <= stream.receive_left + stream.buffered <= SMALL.window_max_bytes

    @invariant()
    def in_order(self) -> None:
        for key, found in self.arrived.items():
            assert self.sent[key].startswith(found)
            if key in self.arrived_end:
                assert key in self.ended
                assert found == self.sent[key]

    def teardown(self) -> None:
        if not self.is_cut:
            for _ in range(200):
                self.pair.pump()
                for side in (self.pair.hub, self.pair.agent):
                    for stream in list(side.session.table.streams.values()):
                        side.session.consumed(stream, stream.buffered)
                        if stream.own_half in {HalfState.AWAITED, HalfState.ACCEPTED}:
                            side.head(stream, OK, end=True)
                            self.ended.add((stream.id, side is self.pair.hub))
                        elif stream.own_half == HalfState.FLOWING and not stream.end_queued:
                            side.send(stream, b"", end=True)
                            self.ended.add((stream.id, side is self.pair.hub))
                self.read()
                if not any(side.session.table.streams for side in (self.pair.hub, self.pair.agent)):
                    break
            self.in_order()
        for side in (self.pair.hub, self.pair.agent):
            assert not side.session.table.streams
            assert side.session.out.queued == 0
            assert side.session._growth.extra == 0


Machine.TestCase.settings = hypothesis.settings(max_examples=60, stateful_step_count=60, deadline=None)
TestMachine = Machine.TestCase


def test_kinds_other_than_http_need_no_head() -> None:
    pair = Pair()
    command = messages.Command(verb="health")
    stream = pair.hub.session.open_stream(command, kind=StreamKind.CMD, cls=StreamClass.NORMAL, end=True, now=pair.now)
    pair.pump()
    taken = pair.agent.taken()
    pair.agent.session.accept(taken, messages.Accepted())
    pair.agent.send(taken, b"ok", end=True)
    pair.pump()
    assert pair.hub.body(stream) == b"ok"
    assert stream.is_closed
