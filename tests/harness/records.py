"""Log records as their fields, for tests that ask what was logged."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proto import logs


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append({"event": record.getMessage(), "level": record.levelname.lower(), **logs.extras(record)})


@contextlib.contextmanager
def captured(name: str = "riata.access") -> Iterator[list[dict[str, Any]]]:
    """The records of one logger, of level info and above, as they come."""
    logger, keeper = logging.getLogger(name), _Keeper()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(keeper)
    try:
        yield keeper.kept
    finally:
        logger.removeHandler(keeper)
        logger.setLevel(level)


def written(log: Path) -> list[dict[str, Any]]:
    """The records in a log file whose program may be writing it: the last line is one only when it is whole."""
    whole, _, _ = log.read_text(errors="replace").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
