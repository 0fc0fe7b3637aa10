"""Audit events: a closed set of names, marked, and never with a secret."""

from hub import audit
from hub.audit import Audit
from tests.harness.records import captured


def test_an_event_is_marked_and_carries_its_fields() -> None:
    with captured("riata.audit") as logged:
        audit.record(Audit.AGENT_JOINED, agent="a", peer="192.0.2.7:1")
        audit.record(Audit.JOIN_TOKEN_REUSED, agent="a")
    assert logged == [
        {"event": "agent-joined", "level": "info", "audit": True, "agent": "a", "peer": "192.0.2.7:1"},
        {"event": "join-token-reused", "level": "warning", "audit": True, "agent": "a"},
    ]


def test_names_are_plain() -> None:
    assert all(event.value == event.name.lower().replace("_", "-") for event in Audit)
