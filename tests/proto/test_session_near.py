"""Windows where hub and agent are in one place (continues test_session_time; ADR 10)."""

import pytest

from proto import events, messages
from proto.limits import Limits
from tests.proto.pair import answer_all, measured


@pytest.mark.parametrize(
    ("shortest_s", "recent_s", "windows_kib"),
    [
        (0.0005, 0.012, (128, 128)),  # recent answers have waited behind bulk
        (0.0005, 0.021, (512, 512)),  # or the way has become a long one
        (0.0015, 0.012, (512, 512)),
    ],
)
def test_in_one_place_streams_that_move_together_have_less_in_flight(
    shortest_s: float, recent_s: float, windows_kib: tuple[int, int]
) -> None:
    pair = measured(shortest_s, recent_s)
    session = pair.hub.session
    assert session.is_near is (windows_kib[0] == 128)
    streams = [pair.hub.get() for _ in range(2)]
    answer_all(pair, 2_000_000)
    for stream in streams:
        session.consumed(stream, stream.buffered)
    pair.pump()
    assert tuple(stream.window // 1024 for stream in streams) == windows_kib
    assert [stream.buffered for stream in streams] == [stream.window for stream in streams]


def test_in_one_place_a_stream_that_moves_alone_fills_the_way_and_makes_room_for_another() -> None:
    pair = measured(0.0005, 0.012)
    session = pair.hub.session
    first, windows = pair.hub.get(), []
    answer_all(pair, 9_000_000)
    for _ in range(13):
        pair.pump()
        session.consumed(first, first.buffered)
        windows.append(first.window // 1024)
    second = pair.hub.get()
    answer_all(pair, 9_000_000)
    for _ in range(60):
        pair.pump()
        for stream in (first, second):
            session.consumed(stream, min(stream.buffered, 64 * 1024))
    assert windows == [128] * 8 + [256, 512, 1024, 1024, 1024]
    assert (first.window // 1024, second.window // 1024) == (256, 256)


@pytest.mark.parametrize(("latecomers", "window_kib"), [(1, 256), (2, 170), (3, 128), (6, 128)])
def test_in_one_place_readers_that_take_everything_soon_have_the_same_in_flight(
    latecomers: int, window_kib: int
) -> None:
    """Credit decides there who moves how much: whoever has more of it must not keep it by that."""
    pair = measured(0.0005, 0.012)
    session = pair.hub.session
    streams = [pair.hub.get()]
    for turn in range(60):
        if turn == 16:
            streams += [pair.hub.get() for _ in range(latecomers)]
        pair.pump()
        for taken in (event.stream for event in pair.agent.all(events.StreamOpened)):
            if not taken.is_answered:
                pair.agent.head(taken)
            if taken.queued < 2_000_000:
                pair.agent.send(taken, bytes(2_000_000))
        pair.pump()
        for stream in streams:
            session.consumed(stream, stream.buffered)
        if turn == 15:
            assert streams[0].window == 1024 * 1024
    assert [stream.window // 1024 for stream in streams] == [window_kib] * (1 + latecomers)


def test_in_one_place_no_window_falls_below_what_its_sender_cuts_its_blocks_by() -> None:
    """docs/protocol.md §5.3: half of the credit in OPEN, or of the agreed window."""
    pair = measured(0.0005, 0.012)
    session = pair.hub.session
    upgrade = pair.hub.request("GET", upgrade="websocket", end=True)
    session.liveness.best_rtt_s = 1.0  # for the moment the way seems to be long
    far = pair.hub.get()
    session.liveness.best_rtt_s = 0.012
    pair.pump()
    begun = [stream.opening_credit // 1024 for stream in (upgrade, far, pair.hub.get())]
    answer_all(pair, 2_000_000)
    for _ in range(8):
        pair.pump()
        for stream in (upgrade, far):
            session.consumed(stream, stream.buffered // 2)
    assert begun == [256, 256, 128]
    assert [stream.window // 1024 for stream in (upgrade, far)] == [256, 256]
    assert pair.hub.dial().window == 128 * 1024


def test_in_one_place_what_the_peer_sends_keeps_the_agreed_window() -> None:
    pair = measured(0.0005, 0.012)
    session = pair.hub.session
    streams = [pair.agent.dial() for _ in range(4)]
    pair.pump()
    taken = [event.stream for event in pair.hub.all(events.StreamOpened)]
    for ours, theirs in zip(streams, taken, strict=True):
        session.accept(theirs, messages.Accepted())
        pair.agent.send(ours, bytes(2_000_000))
    for _ in range(8):
        pair.pump()
        for stream in taken:
            session.consumed(stream, stream.buffered)
    assert [stream.window // 1024 for stream in taken] == [256] * 4


def test_in_one_place_two_have_no_more_than_one_may_have() -> None:
    pair = measured(0.0005, 0.012, limits=Limits(near_window_bytes=192 * 1024, near_alone_bytes=256 * 1024))
    streams = [pair.hub.get() for _ in range(2)]
    answer_all(pair, 9_000_000)
    for _ in range(16):
        for stream in streams:
            pair.hub.session.consumed(stream, stream.buffered)
        pair.pump()
    assert [stream.window // 1024 for stream in streams] == [256, 256]


def test_in_one_place_is_remembered_for_the_whole_session() -> None:
    """What was measured lately may have waited behind bulk."""
    pair = measured(0.0005, 0.006)
    pair.hub.session.out.pacing._min_rtt = 0.006  # it forgets after ten seconds and a probe
    assert pair.hub.get().window == 128 * 1024


def test_in_one_place_a_stream_that_begins_late_soon_counts_as_alone() -> None:
    pair = measured(0.0005, 0.012)
    session = pair.hub.session
    before = pair.hub.get()
    answer_all(pair, 9_000_000)
    while before.buffered:
        session.consumed(before, before.buffered)
        pair.pump()
    late = pair.hub.get()
    answer_all(pair, 2_000_000)
    for _ in range(4):
        pair.pump()
        session.consumed(late, late.buffered)
    pair.pump()
    assert late.window == 256 * 1024, "the other one has moved nothing lately"
