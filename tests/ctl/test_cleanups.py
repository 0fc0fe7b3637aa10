"""Deleted clusters in which something is left; the commands are in commands/test_clusters.py."""

from ctl import cleanups


def test_advice_names_why_the_command_and_the_end() -> None:
    text = cleanups.advice({"id": "u1", "reason": "no agent", "command": "kubectl delete x", "state": "pending"})
    assert [part in text for part in ("no agent", "kubectl delete x", "riata clusters forget u1")] == [True] * 3


def test_advice_has_the_namespace_looked_into_before_it_goes() -> None:
    """A hub may be in it, with its volume: no command of ours takes it along by the label."""
    text = cleanups.advice({"id": "u1", "reason": "no agent", "command": "kubectl delete x", "state": "pending"})
    (line,) = (line for line in text.splitlines() if "namespace" in line)
    assert line.index("kubectl get all,pvc,secrets -n riata-system") < line.index("kubectl delete namespace riata-sys")
