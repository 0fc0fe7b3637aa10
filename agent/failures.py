"""Failures in a row of what is tried for months: said when they are new, and again now and then."""

import logging
from typing import Final

REMIND_ROUNDS: Final = 20
"""Rounds after which an unchanged failure is logged again."""


class Failures:
    """Of one duty. `message`: what is logged, with the error beside it."""

    def __init__(self, logger: logging.Logger, message: str) -> None:
        self._logger = logger
        self._message = message
        self._said = ""
        self._rounds = 0

    def over(self) -> None:
        """A round went well."""
        self._said, self._rounds = "", 0

    def note(self, exc: Exception) -> None:
        """A round failed."""
        self._rounds += 1
        if str(exc) != self._said or self._rounds % REMIND_ROUNDS == 0:
            self._said = str(exc)
            self._logger.warning(self._message, extra={"error": str(exc)})
