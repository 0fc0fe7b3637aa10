"""Times as the API writes them."""

import pytest

from hub import clock


@pytest.mark.parametrize(("seconds", "text"), [(0, "1970-01-01T00:00:00Z"), (1795579200.9, "2026-11-25T04:00:00Z")])
def test_rfc3339(seconds: float, text: str) -> None:
    assert clock.rfc3339(seconds) == text


def test_the_wall_clock_is_past_the_day_of_writing() -> None:
    assert clock.wall_clock() > 1.7e9
