"""Every metric of the agent (`riata_agent_*`) and what they are made of.

The relay counts in plain attributes (`agent.counts`), which the collector reads when somebody scrapes. No label can be
invented by a hub or a user.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from agent.counts import RTT_BUCKETS, Counts
from proto.compression import Histories

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class PoolGauge(Protocol):
    """What the collector wants to know of the pool."""

    @property
    def open_connections(self) -> int: ...

    @property
    def idle_connections(self) -> int: ...

    @property
    def waiting(self) -> int: ...


class AgentCollector(Collector):
    """Turns Counts into metric families at scrape time. `tasks` counts the event loop's, from any thread."""

    def __init__(self, counts: Counts, pool: PoolGauge, histories: Histories, tasks: Callable[[], int]) -> None:
        self._counts = counts
        self._pool = pool
        self._histories = histories
        self._tasks = tasks

    def collect(self) -> Iterable[Metric]:
        """All families."""
        yield from self._session()
        yield from self._relay()
        yield from self._fallback()
        yield GaugeMetricFamily("riata_agent_tasks", "Tasks of the event loop that have not ended", self._tasks())

    def _session(self) -> Iterator[Metric]:
        counts = self._counts
        yield GaugeMetricFamily(
            "riata_agent_connected", "1 while a session with the hub is open", int(counts.is_connected)
        )
        yield CounterMetricFamily("riata_agent_sessions", "Sessions opened", counts.sessions)
        yield _labelled(
            "riata_agent_connect_failures",
            "Failed attempts to connect by the step that failed",
            "step",
            counts.by_failed_step,
        )
        tunnel = CounterMetricFamily(
            "riata_agent_tunnel_bytes", "Stream bytes on the tunnel", labels=("direction", "class")
        )
        for (direction, cls), value in tuple(counts.tunnel_bytes.items()):
            tunnel.add_metric((direction, cls), value)
        yield tunnel
        yield CounterMetricFamily(
            "riata_agent_window_stalled_seconds", "Time streams waited for credit", counts.stalled_seconds
        )
        yield CounterMetricFamily(
            "riata_agent_busy_poll_seconds", "Time spent awake for answers about to come", counts.busy_poll_seconds
        )
        yield _rtt(counts)

    def _relay(self) -> Iterator[Metric]:
        counts = self._counts
        yield CounterMetricFamily("riata_agent_requests", "Requests taken from the hub", counts.requests)
        yield GaugeMetricFamily("riata_agent_exchanges", "Requests in progress, upgraded ones included", counts.active)
        yield GaugeMetricFamily("riata_agent_upgraded_exchanges", "Exchanges behind a 101", counts.upgrades)
        responses = CounterMetricFamily(
            "riata_agent_responses", "Responses of the API server by class", labels=("code",)
        )
        for hundred in range(1, 6):
            responses.add_metric((f"{hundred}xx",), counts.by_status[hundred])
        yield responses
        resets = CounterMetricFamily("riata_agent_resets", "Streams reset by the agent", labels=("code",))
        for code, value in tuple(counts.by_code.items()):
            resets.add_metric((code.name.lower(),), value)
        yield resets
        yield _labelled("riata_agent_refusals", "Requests that the policy refused", "reason", counts.by_refusal)
        yield CounterMetricFamily("riata_agent_request_body_bytes", "Body bytes sent up", counts.request_bytes)
        yield CounterMetricFamily("riata_agent_response_body_bytes", "Body bytes relayed", counts.response_bytes)
        compressed = CounterMetricFamily(
            "riata_agent_compressed_bytes", "Bytes of compressed answers, before and after", labels=("form",)
        )
        compressed.add_metric(("plain",), counts.compressed_plain_bytes)
        compressed.add_metric(("wire",), counts.compressed_wire_bytes)
        yield compressed
        yield GaugeMetricFamily(
            "riata_agent_compressed_bodies", "Answers that are being compressed", self._histories.bodies
        )
        yield from self._kube()

    def _kube(self) -> Iterator[Metric]:
        counts, pool = self._counts, self._pool
        connections = GaugeMetricFamily(
            "riata_agent_kube_connections", "Connections to the API server", labels=("state",)
        )
        connections.add_metric(("idle",), pool.idle_connections)
        connections.add_metric(("busy",), pool.open_connections - pool.idle_connections)
        yield connections
        yield GaugeMetricFamily("riata_agent_kube_waiting", "Requests waiting for a connection", pool.waiting)
        dials = CounterMetricFamily("riata_agent_kube_dials", "Connections made to the API server", labels=("result",))
        dials.add_metric(("ok",), counts.dials)
        dials.add_metric(("failed",), counts.dials_failed)
        yield dials
        yield GaugeMetricFamily(
            "riata_agent_kube_around_service",
            "1 while the API server is reached by its own endpoints, not by its Service",
            int(counts.is_around_service),
        )
        yield CounterMetricFamily(
            "riata_agent_kube_stale_repeats", "Safe requests repeated on a new connection", counts.repeats_stale
        )
        yield CounterMetricFamily(
            "riata_agent_kube_unauthorized", "401 answers to the agent's own token", counts.unauthorized
        )

    def _fallback(self) -> Iterator[Metric]:
        counts = self._counts
        yield GaugeMetricFamily(
            "riata_agent_fallback_leader", "1 while this replica chooses the fallback nodes", int(counts.leads_fallback)
        )
        yield GaugeMetricFamily(
            "riata_agent_fallback_nodes", "Fallback nodes at this replica's last round", counts.fallback_nodes
        )
        yield _labelled("riata_agent_fallback_changes", "Labels set and taken away", "change", counts.fallback_changes)


def registry(counts: Counts, pool: PoolGauge, histories: Histories, tasks: Callable[[], int]) -> CollectorRegistry:
    """A registry of its own with the agent's metrics and the process's."""
    result = CollectorRegistry()
    ProcessCollector(registry=result)
    result.register(AgentCollector(counts, pool, histories, tasks))
    return result


def render(metrics: CollectorRegistry) -> bytes:
    """The text exposition."""
    return generate_latest(metrics)


def _labelled(name: str, text: str, label: str, values: collections.Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for key, value in tuple(values.items()):
        family.add_metric((key,), value)
    return family


def _rtt(counts: Counts) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, value in zip((*map(str, RTT_BUCKETS), "+Inf"), counts.rtt_counts, strict=True):
        total += value
        buckets.append((bound, total))
    family = HistogramMetricFamily("riata_agent_rtt_seconds", "Round trips of pings on the tunnel")
    family.add_metric((), buckets=buckets, sum_value=counts.rtt_sum)
    return family
