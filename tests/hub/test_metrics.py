"""hub/metrics.py: closed labels, cached children, forgotten clusters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.api import server
from hub.metrics import REFUSALS, ROLES, TUNNEL_REFUSALS, Metrics
from hub.proxy import relay
from proto.messages import StreamClass, StreamKind


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"riata_hub_{name}", labels)


def test_requests_by_cluster_verb_and_code() -> None:
    metrics = Metrics()
    metrics.answered("c1", "list", 200, 0.25)
    metrics.answered("c1", "list", 200, 0.25)
    metrics.answered("c1", "watch", 200, None)
    assert value(metrics, "requests_total", cluster="c1", verb="list", code="200") == 2
    assert value(metrics, "requests_total", cluster="c1", verb="watch", code="200") == 1
    assert value(metrics, "request_seconds_count", verb="list") == 2
    assert value(metrics, "request_seconds_count", verb="watch") is None


def test_a_hub_without_agents_says_so() -> None:
    """Dashboards find namespace and job of a hub by these: they were empty when no agent got in."""
    assert [value(Metrics(), "sessions", role=role) for role in ROLES] == [0, 0]


def test_a_deleted_cluster_leaves_no_series() -> None:
    metrics = Metrics()
    metrics.answered("c1", "list", 200, 0.1)
    metrics.unanswered("c1")
    metrics.forget_cluster("c1")
    metrics.forget_cluster("c1")
    assert value(metrics, "requests_total", cluster="c1", verb="list", code="200") is None
    assert value(metrics, "requests_unanswered_total", cluster="c1") is None
    metrics.answered("c1", "list", 200, 0.1)
    assert value(metrics, "requests_total", cluster="c1", verb="list", code="200") == 1


def test_nobody_invents_a_label() -> None:
    metrics = Metrics()
    metrics.refused("forbidden")
    metrics.refused('evil"\n')
    metrics.tunnel_refused("made up")
    metrics.session_opened("admin")
    assert value(metrics, "refusals_total", reason="forbidden") == 1
    assert value(metrics, "refusals_total", reason="other") == 1
    assert value(metrics, "tunnel_refusals_total", reason="other") == 1
    assert value(metrics, "sessions", role="other") == 1
    assert b"evil" not in metrics.render()


ROOT = Path(__file__).parents[2]


def reasons(tree: ast.Module) -> Iterator[str]:
    """Each text that a module gives as the reason of a refused tunnel: named so, or at the place where it belongs."""
    places = {"Refusal": 1, "_note": 0, "_refuse": 3}
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in places:
                given += node.args[places[name] :][:1]
        elif isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "reason" for target in node.targets):
            given.append(node.value)
        for value in given:
            branches = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
            yield from (str(each.value) for each in branches if isinstance(each, ast.Constant) and each.value)


def test_every_reason_for_which_a_tunnel_is_refused_has_its_label() -> None:
    sources = [*(ROOT / "hub" / "tunnel").glob("*.py"), ROOT / "hub" / "workers" / "registry.py"]
    found = {reason for source in sources for reason in reasons(ast.parse(source.read_text()))}
    assert found == set(TUNNEL_REFUSALS)


def test_every_reason_for_which_a_request_is_refused_has_its_label() -> None:
    assert {reason for _, reason in relay._REASONS if reason} | {"malformed"} == set(REFUSALS)
    assert set(server._REFUSALS.values()) <= set(REFUSALS)


@pytest.mark.parametrize("reason", TUNNEL_REFUSALS)
def test_a_refused_tunnel_is_counted_by_its_reason(reason: str) -> None:
    metrics = Metrics()
    metrics.tunnel_refused(reason)
    assert value(metrics, "tunnel_refusals_total", reason=reason) == 1


def test_links_report_through_an_observer() -> None:
    metrics = Metrics()
    observer = metrics.link_observer()
    observer.opened(StreamKind.HTTP, StreamClass.NORMAL)
    observer.bytes("out", StreamClass.BULK, 10)
    observer.rtt(0.01)
    observer.open_latency(StreamKind.HTTP, 0.02)
    observer.stalled(0.25, begins=True)
    observer.stalled(0.25, begins=False)
    observer.refused("kind")
    assert value(metrics, "streams", kind="http", **{"class": "normal"}) == 1
    assert value(metrics, "stream_bytes_total", direction="out", **{"class": "bulk"}) == 10
    assert value(metrics, "session_rtt_seconds_count") == 1
    assert value(metrics, "stream_open_seconds_count", kind="http") == 1
    assert value(metrics, "window_stalled_seconds_total") == 0.5
    assert value(metrics, "window_stalls_total") == 1
    assert value(metrics, "stream_refusals_total", reason="kind") == 1
    observer.closed(StreamKind.HTTP, StreamClass.NORMAL)
    assert value(metrics, "streams", kind="http", **{"class": "normal"}) == 0


def test_two_hubs_in_one_process_do_not_meet() -> None:
    one, two = Metrics(), Metrics()
    one.refused("forbidden")
    assert value(two, "refusals_total", reason="forbidden") is None
