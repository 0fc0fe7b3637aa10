"""Every metric of the hub. Labels come from closed sets; `cluster` only from clusters that exist and were authorised.

Children are looked up once and kept, since `labels()` costs more than the increment. Base units in the names, as
Prometheus asks for. docs/reference lists them; a test compares.
"""

from __future__ import annotations

import http
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from hub.fastmetrics import Buckets, Cell, Flags, Histogram, Series
from hub.route import Reason
from proto.errors import Code
from proto.messages import StreamClass, StreamKind

ROLES: Final = ("cluster", "node")
REFUSALS: Final = (
    "malformed", "version", "too-large", "slow", "method", "unauthenticated", "forbidden", "not-found", "overloaded",
)  # fmt: skip
"""Reasons for which the edge, the relay or the management API refuses a request."""
TUNNEL_REFUSALS: Final = (
    "credential", "protocol", "version", "timeout", "too-many-handshakes", "superseded", "too-many-instances",
    "too-many-nodes", "store",
)  # fmt: skip
"""Reasons for which the hub refuses an agent's tunnel."""
REROUTES: Final = ("refused", "unreachable", "lost", "silent", "held")
"""Why a request takes the next route: the agent did not take it; it has no way to the API server; its session or its
connection to the API server broke off before an answer; it says nothing; it gave a change no sign of life."""
_SECONDS: Final[tuple[float, ...]] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

_CODES: Final = frozenset(http.HTTPStatus) | {499}
"""Codes that may be label values; an agent may answer with any number."""


class Metrics:
    """One set of metrics with its own registry: several hubs in one test process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sessions = self._gauge("sessions", "Tunnel sessions that are open.", ["role"])
        for role in ROLES:  # dashboards find the hub by them, also while no agent gets in
            self._sessions.labels(role)
        self.connected = Flags(
            self.registry,
            "riata_hub_cluster_connected",
            "Whether a request to the cluster would find a route now: 1 or 0.",
            "cluster",
        )
        self._streams = self._series("streams", "Streams that are open.", ["kind", "class"], is_gauge=True)
        self._stream_bytes = self._series("stream_bytes", "Bytes of DATA through tunnels.", ["direction", "class"])
        self.rtt = self._histogram("session_rtt_seconds", "Round-trip times measured by pings.", [])
        self._open_latency = self._histogram(
            "stream_open_seconds", "From an OPEN to its ACCEPT, HEAD or RESET.", ["kind"]
        )
        self._requests = self._series("requests", "Requests under /k8s/, answered.", ["cluster", "verb", "code"])
        self._unanswered = self._series(
            "requests_unanswered",
            "Of these, ended by the hub with 503 or 504: no agent, or no answer of the cluster.",
            ["cluster"],
        )
        self._request_seconds = self._histogram(
            "request_seconds", "Whole time of short requests (no watch, log stream or session).", ["verb"]
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests under /k8s/ under way.", [])
        self.request_bytes = self._series("request_body_bytes", "Request body bytes received from clients.", []).cell()
        self.response_bytes = self._series("response_body_bytes", "Response body bytes sent to clients.", []).cell()
        self._compressed = self._series(
            "compressed_bytes", "Bytes of compressed answers, on the tunnel and after decoding.", ["form"]
        )
        self.compressed_bodies = self._gauge("compressed_bodies", "Compressed answers under way.", [])
        self._broken = self._counter("responses_broken", "Responses broken off behind their head.", ["reason"])
        self.stalls = self._counter("window_stalls", "Times that a sender ran out of stream or session credit.", [])
        self.stalled_seconds = self._counter("window_stalled_seconds", "Time without credit.", [])
        self.busy_poll_seconds = self._series(
            "busy_poll_seconds", "Time spent awake for answers about to come (busy_poll_share).", []
        ).cell()
        self._refusals = self._counter(
            "refusals", "Requests refused by the hub itself; of those to /v1/ only 401 and 403.", ["reason"]
        )
        self._tunnel_refusals = self._counter("tunnel_refusals", "Agents refused before a session.", ["reason"])
        self._link_refusals = self._counter("stream_refusals", "Frames or streams refused on a session.", ["reason"])
        self._late_frames = self._series(
            "late_frames", "Frames of agents dropped unread: their session had ended with this code.", ["code"]
        )
        self.connections = self._gauge(
            "connections", "Connections on the public listener: those of clients, and tunnels.", []
        )
        self.handshakes = self._gauge("tunnel_handshakes", "Agents that are not authenticated yet.", [])
        self.tasks = self._gauge("tasks", "Tasks of the event loop that have not ended.", [])
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds",
            "How late the event loop of a process that serves comes to a timer, asked twice a second.",
            [],
        )
        self.buffer_used = self._gauge(
            "buffer_used_bytes", "Bytes that wait for their reader, of tunnels and of unread answers.", []
        )
        self.buffer_limit = self._gauge(
            "buffer_limit_bytes", "Bound of buffer_used_bytes (buffer_bytes): at 80 % of it slow readers are cut.", []
        )
        self.workers = self._gauge("workers", "Worker processes that serve; 0 where one process does everything.", [])
        self.worker_restarts = self._counter("worker_restarts", "Worker processes that ended unasked.", [])
        self.worker_scrapes_missed = self._counter(
            "worker_scrapes_missed",
            "Scrapes that a worker did not answer in time: what it had said before is shown.",
            [],
        )
        self.hops = self._series("hops", "Requests that took a tunnel of another worker process.", []).cell()
        routed = self._series("routed", "Requests sent to an agent, by its role and why it.", ["role", "reason"])
        self._routed = {reason: routed.cell(reason.role, reason.value) for reason in Reason if reason.role != "none"}
        rerouted = self._series("reroutes", "Requests that were asked again on the next route.", ["reason"])
        self._rerouted = {reason: rerouted.cell(reason) for reason in REROUTES}
        self._ca_phase = self._gauge(
            "ca_rotation", "Replacement of the hub's CA: 0 none, 1 introduced, 2 switched.", []
        )
        self._ca_unready = self._gauge("ca_unready_agents", "Agents that are not ready for its next step.", [])
        self._reloads = self._counter(
            "certificate_reloads",
            "Certificate files, replaced or read again at SIGHUP: taken, or refused, the old ones kept.",
            ["result"],
        )
        for result in ("taken", "refused"):
            self._reloads.labels(result)
        self._certificate_end = self._gauge(
            "certificate_end_timestamp_seconds",
            "End of the certificate that the hub serves, and of the CA that it has made: seconds since the epoch.",
            ["of"],
        )
        self._cache: dict[tuple[str, str, int], Cell] = {}
        self._clusters: dict[str, set[tuple[str, str, int]]] = {}
        self._request_seconds_of: dict[str, Buckets] = {}

    def add_process(self) -> None:
        """`process_*`, CPU, memory and open files of this process, come with them."""
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)

    def session_opened(self, role: str) -> None:
        self._sessions.labels(_closed(role, ROLES)).inc()

    def session_closed(self, role: str) -> None:
        self._sessions.labels(_closed(role, ROLES)).dec()

    def answered(self, cluster: str, verb: str, code: int, seconds: float | None) -> None:
        """A request has ended with a status. `cluster` '' where none was authorised; `seconds` None: long-running."""
        key = (cluster, verb, code)
        counter = self._cache.get(key)
        if counter is None:
            counter = self._cache[key] = self._requests.cell(cluster, verb, _code(code))
            self._clusters.setdefault(cluster, set()).add(key)
        counter.inc()
        if seconds is not None:
            histogram = self._request_seconds_of.get(verb)
            if histogram is None:
                histogram = self._request_seconds_of[verb] = self._request_seconds.cell(verb)
            histogram.observe(seconds)

    def unanswered(self, cluster: str) -> None:
        """The hub has ended a request with 503 or 504; what the cluster itself answers with these is not counted."""
        self._unanswered.cell(cluster).inc()

    def routed(self, reason: Reason) -> None:
        """A request was sent on the route that was chosen for this reason."""
        self._routed[reason].inc()

    def rerouted(self, reason: str) -> None:
        """A request was asked on the next route. `reason`: one of REROUTES."""
        self._rerouted[reason].inc()

    def compressed(self, form: str) -> Cell:
        """`form`: 'wire' or 'plain'."""
        return self._compressed.cell(form)

    def broken(self, reason: str) -> None:
        """`reason`: 'lost', 'truncated', 'protocol', 'cut', 'unread'."""
        self._broken.labels(reason).inc()

    def refused(self, reason: str) -> None:
        self._refusals.labels(_closed(reason, REFUSALS)).inc()

    def tunnel_refused(self, reason: str) -> None:
        self._tunnel_refusals.labels(_closed(reason, TUNNEL_REFUSALS)).inc()

    def ca_rotation(self, phase: str, unready: int) -> None:
        """`phase`: 'steady', 'introduced', 'switched'."""
        self._ca_phase.set(("steady", "introduced", "switched").index(phase))
        self._ca_unready.set(unready)

    def certificate_reloaded(self, result: str) -> None:
        """`result`: 'taken', 'refused'."""
        self._reloads.labels(result).inc()

    def certificate_end(self, of: str) -> Gauge:
        """`of`: 'hub', 'ca'. For one process of the hub alone: several are summed."""
        return self._certificate_end.labels(of)

    def forget_cluster(self, cluster: str) -> None:
        """Drop the series of a deleted cluster."""
        self._unanswered.remove(cluster)
        for key in self._clusters.pop(cluster, ()):
            self._cache.pop(key, None)
            self._requests.remove(key[0], key[1], _code(key[2]))

    def link_observer(self) -> LinkMetrics:
        return LinkMetrics(self)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(f"riata_hub_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"riata_hub_{name}_total", text, labels, registry=self.registry)

    def _series(self, name: str, text: str, labels: list[str], *, is_gauge: bool = False) -> Series:
        return Series(self.registry, f"riata_hub_{name}", text, labels, is_gauge=is_gauge)

    def _histogram(self, name: str, text: str, labels: list[str]) -> Histogram:
        return Histogram(self.registry, f"riata_hub_{name}", text, labels, _SECONDS)


class LinkMetrics:
    """Implements proto.aio.link.LinkObserver for every link of a hub."""

    def __init__(self, metrics: Metrics) -> None:
        classes = {cls: cls.name.lower() for cls in StreamClass}
        kinds = {kind: kind.name.lower() for kind in StreamKind}
        self._metrics = metrics
        self._bytes = {
            (direction, cls): metrics._stream_bytes.cell(direction, name)
            for cls, name in classes.items()
            for direction in ("in", "out")
        }
        self._open = {
            (kind, cls): metrics._streams.cell(kind_name, name)
            for kind, kind_name in kinds.items()
            for cls, name in classes.items()
        }
        self._latency = {kind: metrics._open_latency.cell(name) for kind, name in kinds.items()}

    def bytes(self, direction: str, cls: StreamClass, n: int) -> None:
        self._bytes[direction, cls].inc(n)

    def opened(self, kind: StreamKind, cls: StreamClass) -> None:
        self._open[kind, cls].inc()

    def closed(self, kind: StreamKind, cls: StreamClass) -> None:
        self._open[kind, cls].dec()

    def rtt(self, seconds: float) -> None:
        self._metrics.rtt.observe(seconds)

    def open_latency(self, kind: StreamKind, seconds: float) -> None:
        self._latency[kind].observe(seconds)

    def stalled(self, seconds: float, *, begins: bool) -> None:
        if begins:
            self._metrics.stalls.inc()
        self._metrics.stalled_seconds.inc(seconds)

    def refused(self, reason: str) -> None:
        self._metrics._link_refusals.labels(reason).inc()

    def late(self, code: Code, n: int) -> None:
        self._metrics._late_frames.cell(code.name.lower().replace("_", "-")).inc(n)


def _code(code: int) -> str:
    """The label of a status: itself, or its class if nobody registered it, since an agent may answer with any."""
    return str(code) if code in _CODES else f"{code // 100}xx"


def _closed(value: str, known: tuple[str, ...]) -> str:
    """`other` for anything outside the closed set: nobody invents a label."""
    return value if value in known else "other"
