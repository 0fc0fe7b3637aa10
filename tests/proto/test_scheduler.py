import pytest

from proto.limits import DATA_MAX_BYTES, Limits
from proto.messages import StreamClass, StreamKind
from proto.pieces import Buffer
from proto.scheduler import Scheduler
from proto.stream import Stream


def ready(number: int, cls: StreamClass, size: int = 10_000_000) -> Stream:
    stream = Stream(number, StreamKind.TCP, cls, is_ours=True, window=1, send_left=2**30, now=0.0)
    stream.own_half = 3
    stream.push(bytes(size))
    return stream


def serve(scheduler: Scheduler, turns: int) -> list[int]:
    """Return the ids served in order."""
    order = []
    for _ in range(turns):
        out: list[Buffer] = []
        served = scheduler.serve(out, DATA_MAX_BYTES, 0.0)
        if served is None:
            break
        order.append(served[0].id)
    return order


def test_streams_of_one_class_take_turns() -> None:
    scheduler = Scheduler(Limits())
    for number in (1, 2, 3):
        scheduler.add(ready(number, StreamClass.BULK), 0.0)
    assert serve(scheduler, 7) == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize(("higher", "share"), [(StreamClass.INTERACTIVE, 0.1), (StreamClass.NORMAL, 0.1)])
def test_bulk_keeps_a_tenth(higher: StreamClass, share: float) -> None:
    scheduler = Scheduler(Limits(demote_bytes=2**40))
    scheduler.add(ready(1, higher, 2**26), 0.0)
    scheduler.add(ready(2, StreamClass.BULK, 2**26), 0.0)
    order = serve(scheduler, 1000)
    assert order.count(2) == pytest.approx(1000 * share, abs=2)


def test_normal_keeps_a_quarter_beside_interactive() -> None:
    scheduler = Scheduler(Limits(demote_bytes=2**40))
    scheduler.add(ready(1, StreamClass.INTERACTIVE, 2**26), 0.0)
    scheduler.add(ready(2, StreamClass.NORMAL, 2**26), 0.0)
    assert serve(scheduler, 400).count(2) == pytest.approx(100, abs=2)


def test_a_short_interactive_stream_goes_first() -> None:
    scheduler = Scheduler(Limits())
    scheduler.add(ready(1, StreamClass.BULK), 0.0)
    scheduler.add(ready(2, StreamClass.NORMAL), 0.0)
    scheduler.add(ready(3, StreamClass.INTERACTIVE, 1), 0.0)
    assert serve(scheduler, 2) == [3, 2]


def test_a_stream_that_moves_much_is_served_as_bulk_until_it_pauses() -> None:
    scheduler = Scheduler(Limits())
    greedy, modest = ready(1, StreamClass.INTERACTIVE, 8 * DATA_MAX_BYTES), ready(2, StreamClass.NORMAL)
    scheduler.add(greedy, 0.0)
    scheduler.add(modest, 0.0)
    assert serve(scheduler, 4)[:3] == [1, 1, 1]
    assert greedy.moved >= 128 * 1024 or serve(scheduler, 1)
    greedy.drop()
    while greedy.in_ring:
        serve(scheduler, 1)
    greedy.served_at = 1.0
    greedy.push(b"key")
    scheduler.add(greedy, 1.04)  # too short a pause
    assert greedy.moved
    greedy.drop()
    while greedy.in_ring:
        serve(scheduler, 1)
    greedy.push(b"key")
    scheduler.add(greedy, 1.06)
    assert not greedy.moved
    assert serve(scheduler, 1) == [1]


def test_waiting_for_credit_is_no_pause() -> None:
    """A copy that is bound by its window would else race the keystrokes for 128 KiB of every window."""
    scheduler = Scheduler(Limits())
    copy, keys = ready(1, StreamClass.INTERACTIVE), ready(2, StreamClass.INTERACTIVE, 10)
    copy.send_left = 262_144
    scheduler.add(copy, 0.0)
    assert serve(scheduler, 100) == [1] * 8
    copy.send_left = 131_072
    scheduler.add(copy, 5.0)
    scheduler.add(keys, 5.0)
    assert serve(scheduler, 2) == [2, 1]


def test_dead_and_blocked_streams_are_passed_over() -> None:
    scheduler = Scheduler(Limits())
    dead, blocked, live = ready(1, StreamClass.BULK), ready(2, StreamClass.BULK), ready(3, StreamClass.BULK, 5)
    for stream in (dead, blocked, live):
        scheduler.add(stream, 0.0)
        scheduler.add(stream, 0.0)  # a second time changes nothing
    dead.own_half = 5
    blocked.send_left = 0
    assert serve(scheduler, 9) == [3]
    assert not scheduler
    assert not blocked.in_ring


def test_the_dead_never_outnumber_the_living_and_nobody_loses_a_place() -> None:
    """A peer that returns no credit gives nobody a turn, in which the dead would be passed over."""
    scheduler = Scheduler(Limits())
    streams = [ready(number, StreamClass(number % 3)) for number in range(1, 31)]
    for stream in streams:
        scheduler.add(stream, 0.0)
    for stream in streams[:20]:
        stream.own_half = 5
        scheduler.bury()
        queued = [each for ring in scheduler._rings for each in ring]
        assert sum(each.own_half == 5 for each in queued) * 2 <= len(queued)
    assert set(serve(scheduler, 60)) == set(range(21, 31))
    streams[-1].own_half = 5
    scheduler.bury()
    assert 30 not in serve(scheduler, 60)


def test_held_back_bulk_keeps_its_place_and_is_owed_little() -> None:
    scheduler = Scheduler(Limits(demote_bytes=2**40))
    scheduler.add(ready(1, StreamClass.BULK, 2**26), 0.0)
    scheduler.add(ready(2, StreamClass.NORMAL, 2**26), 0.0)
    out: list[Buffer] = []
    for _ in range(100):
        served = scheduler.serve(out, DATA_MAX_BYTES, 0.0, may_bulk=False)
        assert served is not None
        assert served[0].id == 2
    assert scheduler.has_bulk
    assert serve(scheduler, 4) == [1, 1, 2, 2]  # two turns at most, then its share again
    assert scheduler.bulk_bytes == 2 * DATA_MAX_BYTES
