"""Options that many commands share."""

import pytest

from ctl import errors, options


def test_assignments() -> None:
    assert options.assignments(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"]])
def test_what_is_none(pairs: list[str]) -> None:
    with pytest.raises(errors.UsageError):
        options.assignments(pairs)
