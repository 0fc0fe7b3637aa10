import pytest

from proto.backoff import Backoff


@pytest.mark.parametrize(
    ("outage", "ceiling"), [(0.0, 0.5), (2.0, 0.5), (10.0, 2.0), (100.0, 20.0), (150.0, 30.0), (9999.0, 30.0)]
)
def test_the_ceiling_follows_the_outage(outage: float, ceiling: float) -> None:
    for draw in (0.0, 0.5, 0.999):
        backoff = Backoff(lambda draw=draw: draw)  # type: ignore[misc] # a default binds the loop variable
        backoff.delay(1000.0)
        assert backoff.delay(1000.0 + outage) == pytest.approx(draw * ceiling)


def test_a_connection_ends_the_outage() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.delay(0.0)
    assert backoff.delay(100.0) == 20.0
    backoff.connected()
    assert backoff.delay(200.0) == 0.5


def test_a_wish_is_honoured_within_reason_and_jittered() -> None:
    backoff = Backoff(lambda: 0.5)
    backoff.retry_after(10.0, 100.0)
    assert backoff.delay(100.0) == pytest.approx(10.25)
    assert backoff.delay(105.0) == pytest.approx(5.5)
    backoff.retry_after(1e9, 200.0)
    assert backoff.delay(200.0) <= 331.0
    backoff.retry_after(-5.0, 300.0)
    assert backoff.delay(300.0) <= 30.0
