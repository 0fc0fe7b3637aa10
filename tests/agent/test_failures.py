"""What fails for months is said when it is new, and again now and then."""

import logging

from agent.failures import REMIND_ROUNDS, Failures

logger = logging.getLogger(__name__)


def test_said_once_reminded_of_and_said_again_when_it_is_another_one(caplog):
    failures = Failures(logger, "not done")
    for _ in range(2 * REMIND_ROUNDS):
        failures.note(ValueError("forbidden"))
    assert [record.error for record in caplog.records] == ["forbidden"] * 3
    failures.note(ValueError("no answer"))
    failures.over()
    failures.note(ValueError("no answer"))
    assert [record.error for record in caplog.records[3:]] == ["no answer"] * 2
