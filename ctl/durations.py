"""Durations as people write them: 90s, 15m, 12h, 7d."""

import re

from ctl import errors

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"([0-9]{1,9})([smhd])")


def parse(text: str) -> int:
    """Seconds in `text`. UsageError for anything but digits and one unit, and for zero."""
    match = _FORM.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise errors.UsageError(f"{text!r} is not a duration", cure="write a number and one unit: 90s, 15m, 12h or 7d")
    return int(match[1]) * _UNITS[match[2]]
