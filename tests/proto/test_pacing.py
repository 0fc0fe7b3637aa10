"""The link full and its queue short, by table over links made of numbers, with two whole sessions at the ends."""

import dataclasses

import pytest

from proto import events, frames, messages
from proto.errors import Code
from proto.frames import FrameType
from proto.limits import Limits
from proto.messages import StreamClass
from proto.pacing import Pacing
from proto.stream import Stream
from tests.proto.pair import Pair
from tests.proto.wire import Direction, Wire

OLD = Limits(ping_burst=100, ping_per_s=20.0)
"""What a peer of the first version bears; it does not say so."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """Of a stretch of time: share of the link that was used, and its queue in ms, median and 99th percentile."""

    share: float
    median: float
    worst: float


class Download:
    """An endless one, agent to hub, whose reader takes everything at once."""

    def __init__(self, rate: float, rtt: float, *, limits: Limits | None = None, kernel: int = 2**20) -> None:
        """`kernel`: what kernels and middle boxes take off the agent's hands."""
        self.up = Direction(rate=rate, delay=rtt / 2, kernel=kernel)
        self.down = Direction(rate=rate, delay=rtt / 2)
        self.wire = Wire(Pair(limits, limits), hub_to_agent=self.down, agent_to_hub=self.up)
        self.hub, self.agent = self.wire.pair.hub, self.wire.pair.agent
        self.asked = self.hub.get(cls=StreamClass.BULK)
        self.wire.run(2 * rtt + 0.01)
        self.source = self.agent.taken()
        self.agent.head(self.source)
        self.pings = 0
        self._queue: list[float] = []
        self._sample_at = 0.0
        self.wire.every = self._every
        self._every()

    def _every(self) -> None:
        self.hub.session.consumed(self.asked, self.asked.buffered)
        while self.source.queued < 256 * 1024 and not self.source.is_closed:
            self.agent.session.send(self.source, bytes(256 * 1024), now=self.wire.pair.now)
        for message in self.agent.sent:
            self.pings += sum(kind == FrameType.PING and not flags for kind, flags, *_ in frames.split(message))
        for side in (self.hub, self.agent):
            side.sent.clear()
        if self.wire.pair.now >= self._sample_at:
            self._sample_at = self.wire.pair.now + 0.0013
            self._queue.append(self.up.queue_s(self.wire.pair.now) * 1000)

    def run(self, seconds: float) -> Seen:
        self._queue.clear()
        before = self.up.carried
        self.wire.run(seconds)
        assert self.hub.session.is_open
        assert self.agent.session.is_open
        queue = sorted(self._queue) or [0.0]
        share = (self.up.carried - before) / seconds / self.up.rate
        return Seen(share, queue[len(queue) // 2], queue[int(len(queue) * 0.99)])

    @property
    def pacing(self) -> Pacing:
        return self.agent.session.out.pacing


@pytest.mark.parametrize(
    ("rate", "rtt", "start_s", "share", "worst_ms"),
    [
        (8.4e6, 0.05, 1.0, 0.98, 15),
        (1e6, 0.3, 5.0, 0.95, 35),
        (1e6, 0.05, 1.5, 0.98, 20),
        (100e3, 0.05, 5.0, 0.98, 200),  # four of the smallest messages
        (12.5e6, 0.15, 3.0, 0.98, 25),
        (30e6, 0.02, 1.0, 0.98, 20),
        (1e9, 0.001, 0.05, 0.98, 15),
    ],
)
def test_a_steady_link(rate: float, rtt: float, start_s: float, share: float, worst_ms: float) -> None:
    download = Download(rate, rtt)
    download.run(start_s)
    seen = download.run(0.2 if rate > 1e8 else 5.0)
    assert seen.share >= share
    assert seen.worst <= worst_ms
    assert download.pings <= 48 + 130 * download.wire.elapsed


@pytest.mark.parametrize(("rate", "rtt"), [(8.4e6, 0.05), (1e6, 0.3), (1e8, 0.001)])
def test_the_start_is_quick_and_its_queue_a_round_trip_at_most(rate: float, rtt: float) -> None:
    download = Download(rate, rtt)
    seen = download.run(max(12 * rtt, 0.3))
    assert seen.share >= 0.6
    assert seen.worst <= (rtt + 0.03) * 1000


def test_the_true_round_trip_is_looked_for_and_costs_little() -> None:
    download = Download(8.4e6, 0.05)
    download.run(1.0)
    assert download.run(60.0).share >= 0.98
    assert download.pacing.min_rtt_s == pytest.approx(0.05, abs=0.004)


@pytest.mark.parametrize(
    ("before", "after", "within_s"), [(2e6, 16e6, 1.5), (16e6, 2e6, 3.0), (8.4e6, 0.8e6, 5.0), (1e6, 20e6, 3.0)]
)
def test_a_link_becomes_faster_or_slower(before: float, after: float, within_s: float) -> None:
    download = Download(before, 0.05)
    download.run(3.0)
    download.up.rate = download.down.rate = after
    download.run(within_s)
    seen = download.run(3.0)
    assert seen.share >= 0.95
    assert seen.worst <= 25


@pytest.mark.parametrize(("before", "after", "within_s"), [(0.05, 0.15, 5.0), (0.15, 0.05, 12.0), (0.02, 0.1, 5.0)])
def test_a_route_becomes_longer_or_shorter(before: float, after: float, within_s: float) -> None:
    download = Download(8.4e6, before)
    download.run(3.0)
    download.up.delay = download.down.delay = after / 2
    download.run(within_s)
    seen = download.run(3.0)
    assert seen.share >= 0.9
    assert seen.worst <= 45
    assert download.pacing.min_rtt_s == pytest.approx(after, abs=0.02)


def test_a_link_that_stands_still_now_and_then_is_used_in_between() -> None:
    """As TCP looks from above when it repairs a loss: nothing for 200 ms every second, then all at once."""
    download = Download(8.4e6, 0.05)
    for second in range(1, 9):
        download.run(second - download.wire.elapsed)
        download.up.dead_from, download.up.dead_until = download.wire.pair.now, download.wire.pair.now + 0.2
        download.up.free_at = max(download.up.free_at, download.up.dead_until)
    assert download.up.carried / download.wire.elapsed >= 0.6 * 8.4e6
    download.run(2.0)
    assert download.run(2.0).share >= 0.95


def test_keystrokes_beside_a_download_find_a_short_queue() -> None:
    download = Download(8.4e6, 0.05)
    pair = download.wire.pair
    keys = pair.hub.request("GET", upgrade="websocket", cls=StreamClass.INTERACTIVE)
    download.run(1.5)
    echo = pair.agent.taken()
    pair.agent.head(echo, messages.HttpHead(status=101, headers=()))
    download.run(0.2)
    took: list[float] = []
    for _ in range(50):
        typed_at = pair.now
        pair.hub.send(keys, b"k")
        while not any(event.stream is echo for event in pair.agent.all(events.DataReceived)):
            download.run(0.001)
        pair.agent.log.clear()
        pair.hub.log.clear()
        pair.agent.send(echo, b"k")
        while not any(event.stream is keys for event in pair.hub.all(events.DataReceived)):
            download.run(0.001)
            pair.hub.log = [event for event in pair.hub.log if getattr(event, "stream", None) is keys]
        took.append(pair.now - typed_at)
        pair.hub.log.clear()
    assert max(took) <= 0.05 + 0.02


def test_a_peer_that_does_not_say_what_it_bears_gets_few_marks() -> None:
    """It ends the session at more than 20 pings a second. The queue is longer then, and still bounded."""
    download = Download(8.4e6, 0.05, limits=OLD)
    assert download.agent.session.is_open
    seen = download.run(30.0)
    assert seen.share >= 0.95
    assert seen.worst <= 140
    assert download.pings <= 48 + 13 * 30


def test_marks_are_the_pings_of_a_busy_session() -> None:
    """No others leave, they keep the round trip fresh, and a dead link is noticed as ever."""
    download = Download(8.4e6, 0.05)
    download.run(4.0)
    assert download.agent.session.liveness.rtt_s == pytest.approx(0.06, abs=0.01)
    at = download.wire.elapsed
    download.up.dead_from = download.wire.pair.now
    download.wire.run(20.0)
    assert download.wire.ended_at[download.agent] - at <= 7.1
    assert download.wire.ended_at[download.hub] - at <= 7.1


def test_without_bulk_there_is_no_mark() -> None:
    pair = Pair()
    wire = Wire(pair, hub_to_agent=Direction(delay=0.01), agent_to_hub=Direction(delay=0.01))
    for number in range(200):
        stream = pair.hub.get()
        wire.run(0.03)
        pair.agent.head(pair.agent.taken())
        pair.agent.send(pair.agent.taken(), bytes(1000), end=True)
        wire.run(0.03)
        assert stream.is_closed, number
    pings = [frame for each in pair.agent.sent for frame in frames.split(each) if frame[0] == FrameType.PING]
    behind_64_kib = 200_000 // 65_536
    assert len([frame for frame in pings if not frame[1]]) <= 1 + wire.elapsed / 2 + behind_64_kib


def test_a_burst_behind_a_pause_finds_its_answers_in_time() -> None:
    """A list that comes fast and in small pieces: the kernel takes them as they come, until it is full, and by then
    the link must not have to wait a round trip for the first answer."""
    download = Download(8.4e6, 0.05, kernel=300_000)
    download.run(3.0)
    wire, hub, agent = download.wire, download.hub, download.agent
    wire.every = lambda: None
    download.up.delay += 0.001  # no ping is as fast as the fastest was
    hub.session.reset_stream(download.asked, Code.CANCELLED, now=wire.pair.now)
    for pause_s in (1.0, 1.0, 1.0, 11.0, 1.0, 11.0):  # rates that bursts show are no better guide than the one before
        wire.run(pause_s)  # behind a long one the round trip is looked for, and nothing drains for it
        asked = hub.get()
        wire.run(0.03)
        source = agent.taken()
        agent.head(source)
        began, left, got = wire.pair.now, 650_000, 0
        while got < 650_000:
            piece = bytes(min(left, 7_000))
            left -= len(piece)
            if piece:
                agent.send(source, piece)
            wire.run(0.0003)
            got += asked.buffered
            hub.session.consumed(asked, asked.buffered)
            assert wire.pair.now < began + 0.15  # 0.077 on the link, 0.025 behind it
        hub.session.reset_stream(asked, Code.CANCELLED, now=wire.pair.now)


def test_nobody_looks_while_the_way_may_hold_what_had_no_mark() -> None:
    """Answers that are no bulk may have filled it: their plain PING is not answered yet."""
    pacing = Pacing(100.0)
    pacing._is_starting = False
    pacing.answered(b"", 0.05, 0.0)
    pacing.sent(1000, 0, 20.0, is_backlogged=False)
    assert pacing.is_looking
    pacing.pinged(b"plain")
    pacing.sent(1000, 0, 40.0, is_backlogged=False)
    assert not pacing.is_looking
    pacing.answered(b"plain", 5.0, 45.0)
    pacing.sent(1000, 0, 60.0, is_backlogged=False)
    assert pacing.is_looking


def test_bulk_keeps_a_share_beside_others_that_fill_the_link() -> None:
    download = Download(8.4e6, 0.05)
    pair = download.wire.pair
    download.run(1.0)
    other = pair.hub.dial()
    download.run(0.1)
    theirs = pair.agent.taken()
    pair.agent.session.accept(theirs, messages.Accepted())
    pair.agent.session.out.scheduler._demote_bytes = 2**40  # it stays what it claims to be
    before = pair.agent.session.out.scheduler.bulk_bytes
    every = download.wire.every

    def feed() -> None:
        every()
        pair.hub.session.consumed(other, other.buffered)
        while theirs.queued < 256 * 1024:
            pair.agent.send(theirs, bytes(256 * 1024))

    download.wire.every = feed
    download.run(5.0)
    moved = pair.agent.session.out.scheduler.bulk_bytes - before
    assert moved >= 0.09 * 8.4e6 * 5.0


def test_what_had_no_mark_behind_it_is_forgotten_after_a_while() -> None:
    pacing = Pacing(200.0)
    pacing.answered(b"liveness", 0.05, 1.0)
    pacing.sent(100_000, 100_000, 1.0, is_backlogged=False)
    assert pacing.on_way == 100_000
    assert not pacing.is_blocked
    pacing.sent(1000, 1000, 1.05, is_backlogged=False)
    assert pacing.on_way == 101_000
    pacing.sent(1000, 1000, 2.0, is_backlogged=False)
    assert pacing.on_way == 1000


def test_marks_in_one_turn_of_a_burst_are_bounded() -> None:
    pacing = Pacing(20.0)
    marks = 0
    for number in range(1000):
        pacing.sent(65_536, 65_536, 1.0, is_backlogged=True)
        if pacing.is_mark_due(1.0):
            pacing.mark(bytes([number % 256]) * 8, 16, 1.0)
            marks += 1
    assert marks == 48
    assert pacing.is_blocked


def test_the_hub_paces_uploads_alike() -> None:
    pair = Pair()
    down = Direction(rate=8.4e6, delay=0.025, kernel=2**20)
    wire = Wire(pair, hub_to_agent=down, agent_to_hub=Direction(rate=8.4e6, delay=0.025))
    sent: Stream = pair.hub.request("POST")
    wire.run(0.06)
    taken = pair.agent.taken()
    pair.agent.session.accept(taken, messages.Accepted())
    worst: list[float] = []

    def every() -> None:
        pair.agent.session.consumed(taken, taken.buffered)
        while sent.queued < 256 * 1024:
            pair.hub.send(sent, bytes(256 * 1024))
        worst.append(down.queue_s(pair.now))

    wire.every = every
    every()
    wire.run(1.5)
    worst.clear()
    carried = down.carried
    wire.run(3.0)
    assert max(worst) <= 0.015
    assert (down.carried - carried) / 3.0 >= 0.98 * 8.4e6
