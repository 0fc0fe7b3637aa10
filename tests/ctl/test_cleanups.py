"""Deleted clusters in which something is left; the commands are in commands/test_clusters.py."""

from ctl import cleanups


def test_advice_names_why_the_command_and_the_end() -> None:
    text = cleanups.advice({"id": "u1", "reason": "no agent", "command": "kubectl delete x", "state": "pending"})
    assert [part in text for part in ("no agent", "kubectl delete x", "riata clusters forget u1")] == [True] * 3
