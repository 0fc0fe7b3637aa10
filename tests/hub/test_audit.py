"""Audit events: a closed set of names, marked, and never with a secret."""

import io
import json
import logging

import pytest

from hub import audit
from hub.audit import BURST, PER_S, SUBJECTS_MAX, Audit, Floods
from proto import logs
from tests.harness.records import captured


def test_an_event_is_marked_and_carries_its_fields() -> None:
    with captured("riata.audit") as logged:
        audit.record(Audit.AGENT_JOINED, agent="a", peer="192.0.2.7:1")
        audit.record(Audit.JOIN_TOKEN_REUSED, agent="a")
    assert logged == [
        {"event": "agent-joined", "level": "info", "audit": True, "agent": "a", "peer": "192.0.2.7:1"},
        {"event": "join-token-reused", "level": "warning", "audit": True, "agent": "a"},
    ]


@pytest.mark.parametrize(("level", "others"), [("info", ["request"]), ("warning", []), ("error", [])])
def test_events_are_written_whatever_the_level_of_the_log(level: str, others: list[str]) -> None:
    log = io.StringIO()
    logs.configure(component="hub", log_format="json", level=level, stream=log)
    audit.record(Audit.TOKEN_REVOKED, token_id="t")
    audit.record(Audit.JOIN_TOKEN_REUSED, agent="a")
    logging.getLogger("riata.access").info("request")
    written = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert written == ["token-revoked", "join-token-reused", *others]


def test_a_flood_is_counted_not_written() -> None:
    """The attack: whoever holds a revoked key signs in a loop; each signature was a line of the log."""
    now = [100.0]
    floods = Floods(lambda: now[0])
    with captured("riata.audit") as logged:
        for _ in range(10_000):
            audit.record(Audit.REVOKED_KEY_USED, floods=floods, agent="thief")
        audit.record(Audit.REVOKED_KEY_USED, floods=floods, agent="other")
        audit.record(Audit.JOIN_TOKEN_REUSED, floods=floods, agent="thief")
    assert len(logged) == BURST + 2  # another agent, and another event, are not hidden by it
    with captured("riata.audit") as logged:
        audit.tell_suppressed(floods)
        audit.tell_suppressed(floods)
    told = {"suppressed": "revoked-key-used", "agent": "thief", "count": 10_000 - BURST}
    assert logged == [{"event": "suppressed", "level": "warning", "audit": True, **told}]
    now[0] += 1 / PER_S + 0.1
    with captured("riata.audit") as logged:
        for _ in range(2):
            audit.record(Audit.REVOKED_KEY_USED, floods=floods, agent="thief")
    assert len(logged) == 1


def test_what_an_operator_does_is_always_written() -> None:
    with captured("riata.audit") as logged:
        for number in range(1000):
            audit.record(Audit.AGENT_REVOKED, floods=Floods(), agent="a", number=number)
    assert len(logged) == 1000


def test_subjects_are_bounded() -> None:
    floods = Floods(lambda: 100.0)
    for number in range(SUBJECTS_MAX + 10):
        assert floods.lets(Audit.REVOKED_KEY_USED, number)
    assert len(floods) == SUBJECTS_MAX


def test_names_are_plain() -> None:
    assert all(event.value == event.name.lower().replace("_", "-") for event in Audit)
