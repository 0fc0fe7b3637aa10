import pytest

from proto.limits import Limits
from proto.window import CROWDED_BYTES, Bucket, Budget, Growth, Movers, SessionCredit


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(3, 2.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.is_empty(10.4)
    assert not bucket.is_empty(11.5)
    assert bucket.take(11.5)


def test_a_bucket_owes_at_most_one_burst() -> None:
    bucket = Bucket(5, 1.0)
    for _ in range(100):
        bucket.take(1.0)
    assert bucket.level == -6
    bucket = Bucket(2, 1.0)
    for _ in range(100):
        bucket.spend(1.0)
    assert bucket.level == 0


def test_a_bucket_never_holds_more_than_its_burst_and_ignores_a_clock_that_goes_back() -> None:
    bucket = Bucket(2, 1.0)
    bucket.take(100.0)
    bucket.take(50.0)
    assert bucket.level == 0
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]


def test_session_credit_is_due_at_half_its_window() -> None:
    credit = SessionCredit(100)
    credit.receive_left -= 49
    credit.unreturned += 49
    assert not credit.is_due()
    credit.receive_left -= 1
    credit.unreturned += 1
    assert credit.is_due()
    assert credit.take_increment() == 50
    assert (credit.receive_left, credit.unreturned) == (100, 0)


@pytest.mark.parametrize(
    ("elapsed", "rtt", "size", "expected"),
    [
        (0.1, 0.1, 256, 512),  # used up within one round trip
        (0.39, 0.1, 256, 512),
        (0.4, 0.1, 256, 256),  # four round trips: fast enough as it is
        (0.0, None, 256, 256),  # no round trip known yet
        (0.1, 0.1, 4096, 4096),  # the largest
        (0.1, 0.1, 3000, 4096),
        (0.1, 0.1, 32, 128),  # less than usual: soon as usual
        (0.1, 0.1, 128, 256),  # and no further at once
        (0.4, 0.1, 32, 32),
    ],
)
def test_when_a_window_grows(elapsed: float, rtt: float | None, size: int, expected: int) -> None:
    limits = Limits(window_bytes=256, window_max_bytes=4096, session_window_bytes=1_000_000)
    assert Growth(limits, 256, 1_000_000, None).next_size(size, elapsed, rtt) == expected


@pytest.mark.parametrize(
    ("size", "elapsed", "most", "expected"),
    [
        (256, 0.0, 192, 192),  # credit that is out already is not taken back: less is returned
        (1024, 9.9, 192, 192),
        (192, 0.0, 192, 192),
        (64, 0.0, 192, 192),
        (192, 0.0, 1024, 256),  # the others have ended: soon as usual
        (256, 0.0, 1024, 512),
        (512, 0.0, 800, 800),
        (1024, 0.0, 800, 800),
    ],
)
def test_no_window_is_larger_than_what_the_way_is_worth(size: int, elapsed: float, most: int, expected: int) -> None:
    limits = Limits(window_bytes=256, window_max_bytes=4096, session_window_bytes=1_000_000)
    growth = Growth(limits, 256, 1_000_000, None)
    growth.extra = max(size - 256, 0)
    assert growth.next_size(size, elapsed, 0.1, most) == expected
    assert growth.extra == max(expected - 256, 0)


def test_who_moves_much_is_counted_over_a_mebibyte_each_once() -> None:
    movers = Movers()
    kib = 1024
    assert movers.lately == 0
    first = movers.note(0, 100 * kib)
    second = movers.note(0, 200 * kib)
    assert movers.note(first, 300 * kib) == first
    assert movers.lately == 0, "the first MiB is not over"
    first = movers.note(first, 1024 * kib)
    assert (movers.lately, first == second) == (2, False)
    first = movers.note(first, 2048 * kib)
    assert movers.lately == 2, "in one of two"
    movers.note(first, 3072 * kib)
    assert movers.lately == 1
    movers.note(first, 9999 * kib)
    assert movers.lately == 1, "however long nobody was granted credit"


def test_windows_grow_together_up_to_half_the_session_window() -> None:
    limits = Limits(window_bytes=100, window_max_bytes=400, session_window_bytes=1000)
    growth = Growth(limits, 100, 1000, None)
    assert growth.next_size(100, 0, 1.0) == 200
    assert growth.next_size(200, 0, 1.0) == 400
    assert growth.next_size(100, 0, 1.0) == 200
    assert growth.next_size(100, 0, 1.0) == 200
    assert growth.next_size(100, 0, 1.0) == 100  # 500 of 500 are given
    growth.release(400)
    assert growth.next_size(100, 0, 1.0) == 200
    growth.release(100)
    assert growth.extra == 300


@pytest.mark.parametrize(
    ("grown_to", "rtt", "most", "expected"),
    [
        (400, 0.5, 9999, 400),
        (1600, 0.5, 9999, 1000),  # no more than what is put at risk for one
        (1600, 0.5, 300, 300),
        (100, 0.5, 9999, 100),  # nothing has grown yet
        (1600, 0.4, 9999, 100),  # a short way
        (1600, None, 9999, 100),
    ],
)
def test_what_a_fresh_request_starts_with(grown_to: int, rtt: float | None, most: int, expected: int) -> None:
    limits = Limits(
        window_bytes=100, window_max_bytes=1600, session_window_bytes=10_000, far_window_bytes=1000, far_rtt_s=0.5
    )
    growth = Growth(limits, 100, 10_000, None)
    size = 100
    while size < grown_to:
        size = growth.next_size(size, 0, 1.0)
    growth.release(size)
    assert growth.first_size(most, rtt) == expected
    assert growth.extra == max(expected - 100, 0)
    growth.release(expected)
    assert growth.extra == 0


def test_a_fresh_request_starts_as_ever_when_the_session_has_no_room() -> None:
    limits = Limits(window_bytes=100, window_max_bytes=400, session_window_bytes=1000, far_rtt_s=0.5)
    growth = Growth(limits, 100, 1000, None)
    assert growth.next_size(100, 0, 1.0) == 200
    assert growth.next_size(200, 0, 1.0) == 400
    growth.release(400)
    assert [growth.first_size(9999, 1.0) for _ in range(3)] == [100, 100, 100], "half of 500 is less than 300"


def test_a_process_that_is_half_way_to_being_crowded_begins_nothing_wide() -> None:
    budget = Budget(1 << 30)
    growth = Growth(Limits(), 256 * 1024, 2**24, budget)
    assert growth.next_size(512 * 1024, 0, 1.0) == 1024 * 1024
    growth.release(1024 * 1024)
    budget.promised = CROWDED_BYTES // 2 - 1024 * 1024 + 1
    assert growth.first_size(2**30, 1.0) == 256 * 1024
    budget.promised -= 1
    assert growth.first_size(2**30, 1.0) == 1024 * 1024


def test_no_window_grows_over_half_the_process_budget() -> None:
    budget = Budget(1000)
    growth = Growth(Limits(), 256 * 1024, 2**24, budget)
    budget.used = 500
    assert growth.next_size(256 * 1024, 0, 1.0) == 256 * 1024
    budget.used = 499
    assert growth.next_size(256 * 1024, 0, 1.0) == 512 * 1024
    budget.used = 800
    assert budget.is_pressed


def test_a_budget_is_crowded_by_what_waits_and_by_what_may_come_to_wait() -> None:
    budget = Budget(1 << 30)
    assert not budget.is_crowded
    budget.promised = CROWDED_BYTES
    assert budget.is_crowded
    budget.promised, budget.used = 0, CROWDED_BYTES
    assert budget.is_crowded
    small = Budget(8000)
    small.used = 999
    assert not small.is_crowded
    small.used = 1000
    assert small.is_crowded


def test_what_a_small_window_grows_to_its_usual_start_is_no_growth_of_the_session() -> None:
    growth = Growth(Limits(window_bytes=400, window_max_bytes=1600, session_window_bytes=10_000), 400, 10_000, None)
    assert growth.next_size(50, 0, 1.0) == 200
    assert growth.next_size(200, 0, 1.0) == 400
    assert growth.extra == 0
    assert growth.next_size(400, 0, 1.0) == 800
    assert growth.extra == 400
    growth.release(800)
    assert growth.extra == 0
