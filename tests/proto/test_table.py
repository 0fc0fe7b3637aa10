import pytest

from proto import errors
from proto.limits import Limits
from proto.messages import StreamClass, StreamKind
from proto.stream import Stream
from proto.table import StreamTable


def table(
    *, is_even: bool = True, capacity: int = 3, last_id: int = 2**30, limits: Limits | None = None
) -> StreamTable:
    return StreamTable(limits or Limits(), capacity, is_even=is_even, last_id=last_id)


def stream(number: int, *, is_ours: bool) -> Stream:
    return Stream(number, StreamKind.HTTP, StreamClass.NORMAL, is_ours=is_ours, window=1, send_left=1, now=0.0)


@pytest.mark.parametrize(("is_even", "ids"), [(True, [2, 4, 6]), (False, [1, 3, 5])])
def test_our_ids_grow_by_two(is_even: bool, ids: list[int]) -> None:
    made = table(is_even=is_even)
    for number in ids:
        assert made.reserve() == number
        made.add_ours(stream(number, is_ours=True))
    with pytest.raises(errors.TooManyStreams):
        made.reserve()
    made.remove(made.streams[ids[0]])
    assert made.reserve() == ids[-1] + 2


def test_ids_run_out() -> None:
    made = table(last_id=4, capacity=10)
    made.add_ours(stream(made.reserve(), is_ours=True))
    made.add_ours(stream(made.reserve(), is_ours=True))
    assert made.is_near_end
    with pytest.raises(errors.SessionDraining):
        made.reserve()


@pytest.mark.parametrize("number", [0, 2, 4, 5, 2**30 + 1])
def test_the_peers_ids_are_checked(number: int) -> None:
    made = table()
    made.check_peer_id(5)
    with pytest.raises(errors.ProtocolError):
        made.check_peer_id(number)
    made.check_peer_id(2**30 - 1)


def test_counts_follow_the_streams() -> None:
    made = table(capacity=2)
    one, two = stream(1, is_ours=False), stream(3, is_ours=False)
    made.add_theirs(one)
    assert made.has_room_for_peer(2)
    assert not made.has_room_for_peer(1)
    made.answered(one)
    made.answered(one)
    assert made.unanswered == 0
    made.add_theirs(two)
    assert not made.has_room_for_peer(99)
    assert made.remove(two)
    assert not made.remove(two)
    assert (made.theirs, made.unanswered) == (1, 0)


def test_which_ids_were_ever_opened() -> None:
    made = table()
    made.add_ours(stream(made.reserve(), is_ours=True))
    made.check_peer_id(7)
    assert [made.was_opened(number) for number in (0, 2, 4, 1, 7, 9)] == [False, True, False, True, True, False]


def test_swallowing_is_bounded_in_time_and_number() -> None:
    made = table(limits=Limits(swallow_s=10.0, swallow_ids=2))
    for number, now in ((2, 0.0), (4, 1.0), (6, 2.0)):
        made.swallow(number, now)
    assert [made.is_swallowed(number) for number in (2, 4, 6)] == [False, True, True]
    made.expire(11.0)
    assert [made.is_swallowed(number) for number in (2, 4, 6)] == [False, False, True]
