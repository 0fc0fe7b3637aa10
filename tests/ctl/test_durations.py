"""Durations."""

import pytest

from ctl import durations, errors


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("7d", 604800)])
def test_durations(text: str, seconds: int) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1w", "1.5h", "1h30m", " 1h", "٣d"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(errors.UsageError):
        durations.parse(text)
