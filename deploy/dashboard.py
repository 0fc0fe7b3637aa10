"""The hub's Grafana dashboard, made from the list of what it shows; `make manifests` writes it into the chart.

Whoever opens it asks, from top to bottom: which clusters are away, what do users feel, what do the tunnels do, how is
the hub itself. Expressions leave the hub to the dashboard's variables, so one dashboard serves several hubs.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

FILE: Final = "charts/riata-hub/dashboards/riata-hub.json"
"""Below deploy/."""
UID: Final = "riata-hub"
HUB: Final = 'namespace="$namespace", job="$job"'
WIDTH: Final = 24
"""Columns of Grafana's grid."""
_HEIGHT: Final = 8
_SCHEMA: Final = 39
"""`schemaVersion` of Grafana 10.4; later ones convert it when they load it."""
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """`asks`: (PromQL, legend) pairs. `unit`: Grafana's name of it."""

    title: str
    text: str
    asks: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


def _of(name: str, labels: str = "") -> str:
    metric = name if name.startswith("process_") else f"riata_hub_{name}"
    return f"{metric}{{{HUB}{labels}}}"


def _rate(name: str, by: str = "", labels: str = "") -> str:
    total = f"rate({_of(name, labels)}[$__rate_interval])"
    return f"sum by ({by}) ({total})" if by else f"sum({total})"


def _quantile(share: float, name: str, by: str = "", labels: str = "") -> str:
    """Of a histogram, seconds."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', grouped, labels)})"


_OF_CLUSTER: Final = ', cluster=~"$cluster"'
_REQUESTS: Final = _rate("requests_total", "cluster", _OF_CLUSTER)
_TAKEN: Final = _rate("requests_total", "cluster", _OF_CLUSTER + ', code!~"429|499"')
"""Without those that were refused for want of room, and what clients left, as in the alert."""
_UNANSWERED: Final = _rate("requests_unanswered_total", "cluster", _OF_CLUSTER)

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Fleet",
        (
            Panel(
                "Connected",
                "Clusters to which a request would find a route now.",
                ((f"sum({_of('cluster_connected')})", "connected"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Not connected",
                "Clusters that no request would reach.",
                ((f"sum(1 - {_of('cluster_connected')})", "not connected"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Clusters that are not connected",
                "riata clusters show NAME says since when, riata-agent doctor in the agent's pod why.",
                ((f"{_of('cluster_connected', _OF_CLUSTER)} == 0", "{{cluster}}"),),
                kind="table",
            ),
            Panel(
                "Tunnel sessions",
                "Agents by their role. A restart of the hub shows as a step down and a slope up.",
                ((f"sum by (role) ({_of('sessions')})", "{{role}}"),),
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel(
                "Requests by status",
                "499: the client left before its answer; 503 and 504: no agent, no answer of the cluster, or its own.",
                ((_rate("requests_total", "code", _OF_CLUSTER), "{{code}}"),),
                unit="reqps",
            ),
            Panel(
                "Busiest clusters",
                "The ten with the most requests.",
                ((f"topk(10, {_REQUESTS})", "{{cluster}}"),),
                unit="reqps",
            ),
            Panel(
                "Share without an answer",
                "By cluster, where there are any: ended by the hub with 503 or 504. A cluster's own 503 is an answer.",
                ((f"{_UNANSWERED} / {_TAKEN}", "{{cluster}}"),),
                unit="percentunit",
            ),
            Panel(
                "Time of short requests",
                "Whole time of all but watches, log streams and sessions.",
                (
                    (_quantile(0.5, "request_seconds"), "p50"),
                    (_quantile(0.99, "request_seconds"), "p99"),
                ),
                unit="s",
            ),
            Panel(
                "Under way",
                "Requests, watches and sessions that have not ended.",
                ((f"sum({_of('requests_in_flight')})", "requests"),),
            ),
            Panel(
                "Refused or broken off",
                "Refused by the hub itself; broken off behind the head of the answer; asked again on another route.",
                (
                    (_rate("refusals_total", "reason"), "refused: {{reason}}"),
                    (_rate("responses_broken_total", "reason"), "broken off: {{reason}}"),
                    (_rate("reroutes_total", "reason"), "rerouted: {{reason}}"),
                ),
                unit="reqps",
            ),
        ),
    ),
    (
        "Tunnels",
        (
            Panel(
                "Round trips",
                "Between hub and agents, by pings.",
                (
                    (_quantile(0.5, "session_rtt_seconds"), "p50"),
                    (_quantile(0.99, "session_rtt_seconds"), "p99"),
                ),
                unit="s",
            ),
            Panel(
                "Bytes through tunnels",
                "As they are on the way, compressed ones as such.",
                ((_rate("stream_bytes_total", "direction, class"), "{{direction}} {{class}}"),),
                unit="Bps",
            ),
            Panel(
                "Agents refused",
                "Before they had a session.",
                ((_rate("tunnel_refusals_total", "reason"), "{{reason}}"),),
                unit="reqps",
            ),
            Panel(
                "From asking to an answer's begin",
                "How long a stream waits for the agent and its API server.",
                ((_quantile(0.99, "stream_open_seconds", "kind"), "p99 {{kind}}"),),
                unit="s",
            ),
            Panel(
                "Streams",
                "Open ones, by their kind.",
                ((f"sum by (kind) ({_of('streams')})", "{{kind}}"),),
            ),
            Panel(
                "Without credit",
                "Senders that wait for who reads too slowly, on average.",
                ((_rate("window_stalled_seconds_total"), "senders that wait"),),
            ),
        ),
    ),
    (
        "Hub",
        (
            Panel(
                "CPU",
                "Cores in use. One process uses one at most: more take workers.",
                ((_rate("process_cpu_seconds_total"), "cores"),),
            ),
            Panel(
                "Memory",
                "Resident, of all processes.",
                ((f"sum({_of('process_resident_memory_bytes')})", "resident"),),
                unit="bytes",
            ),
            Panel(
                "Connections",
                "On the public listener: clients and tunnels. connections_max and the open files are their limits.",
                (
                    (f"sum({_of('connections')})", "connections"),
                    (f"sum({_of('process_open_fds')})", "open files"),
                    (f"sum({_of('process_max_fds')})", "open files at most"),
                ),
            ),
            Panel(
                "Lag of the event loop",
                "How late it comes to a timer: whether a hub that seems slow is a busy one.",
                (
                    (_quantile(0.5, "event_loop_lag_seconds"), "p50"),
                    (_quantile(0.99, "event_loop_lag_seconds"), "p99"),
                ),
                unit="s",
            ),
            Panel(
                "Buffers",
                "Bytes that wait for their readers. Slow readers are cut when they come near 0.8 of the bound"
                " (with workers: 0.8 divided by their number, when one is full).",
                (
                    (f"sum({_of('buffer_used_bytes')})", "used"),
                    (f"sum({_of('buffer_limit_bytes')})", "bound"),
                ),
                unit="bytes",
            ),
            Panel(
                "Tasks",
                "Of the event loop. A number that only grows is a leak.",
                ((f"sum({_of('tasks')})", "tasks"),),
            ),
            Panel(
                "Worker processes",
                "Those that serve, and those that ended unasked in an hour; none where one process does everything.",
                (
                    (f"sum({_of('workers')})", "serving"),
                    (f"sum(increase({_of('worker_restarts_total')}[1h]))", "ended"),
                ),
            ),
        ),
    ),
)


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def dashboard() -> JsonObject:
    """What Grafana imports."""
    return {
        "uid": UID,
        "title": "riata hub",
        "description": "A hub and its clusters. Metrics are told in docs/reference/metrics.md.",
        "tags": ["riata", "kubernetes"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[JsonObject]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    yield _variable("namespace", "label_values(riata_hub_sessions, namespace)")
    yield _variable("job", 'label_values(riata_hub_sessions{namespace="$namespace"}, job)')
    clusters = _variable("cluster", f"label_values(riata_hub_cluster_connected{{{HUB}}}, cluster)")
    yield clusters | {"multi": True, "includeAll": True, "allValue": ".*"}


def _variable(name: str, query: str) -> JsonObject:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
    }


def _panels() -> Iterator[JsonObject]:
    ids = itertools.count(1)
    y = 0
    for title, panels in ROWS:
        yield {
            "id": next(ids),
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": _at(0, y, 24),
        }
        y, x = y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + _HEIGHT
            yield _panel(next(ids), panel) | {"gridPos": _at(x, y, panel.width, _HEIGHT)}
            x += panel.width
        y += _HEIGHT


def _at(x: int, y: int, width: int, height: int = 1) -> JsonObject:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(number: int, panel: Panel) -> JsonObject:
    is_table = panel.kind == "table"
    found: JsonObject = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if is_table else "time_series",
            }
            for index, (expression, legend) in enumerate(panel.asks)
        ],
    }
    if is_table:
        found["transformations"] = [{"id": "filterFieldsByName", "options": {"include": {"names": ["cluster"]}}}]
    return found
