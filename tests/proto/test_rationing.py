"""proto/rationing.py: what a stranger can cause fills no disk."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from proto.rationing import BURST, RationedLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines() -> list[Any]:
    return []


@pytest.fixture
def logger(lines: list[Any]) -> Iterator[logging.Logger]:
    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record)

    logger, handler = logging.getLogger("tests.rationing"), Keep()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.removeHandler(handler)


def test_a_flood_is_counted_and_the_next_line_says_so(logger: logging.Logger, lines: list[Any]) -> None:
    clock = Clock()
    log = RationedLog(logger, clock)
    for _ in range(1_000):
        log.log(logging.INFO, "refused", "credential", peer="1.2.3.4:5")
    assert len(lines) == BURST
    assert not hasattr(lines[-1], "suppressed")
    clock.now = 1.5
    log.log(logging.INFO, "refused", "credential", peer="1.2.3.4:5")
    assert (len(lines), lines[-1].suppressed, lines[-1].peer) == (BURST + 1, 1_000 - BURST, "1.2.3.4:5")


def test_each_cause_has_its_own(logger: logging.Logger, lines: list[Any]) -> None:
    log = RationedLog(logger, Clock())
    for _ in range(100):
        log.log(logging.INFO, "refused", "credential")
    log.log(logging.INFO, "refused", "version")
    assert len(lines) == BURST + 1


def test_a_traceback_where_one_is_wanted(logger: logging.Logger, lines: list[Any]) -> None:
    log = RationedLog(logger, Clock())
    try:
        raise ValueError("x")
    except ValueError:
        log.log(logging.ERROR, "failed", "store", with_traceback=True)
    assert lines[0].exc_info[0] is ValueError
