"""Metrics: names, labels, values."""

from prometheus_client.parser import text_string_to_metric_families

from agent.counts import Counts
from agent.metrics import registry, render
from proto.compression import Histories
from proto.errors import Code
from proto.messages import StreamClass, StreamKind


class Pool:
    open_connections = 5
    idle_connections = 2
    waiting = 1


def scrape(counts):
    histories = Histories(0)
    histories.bodies = 4
    families = text_string_to_metric_families(render(registry(counts, Pool(), histories, lambda: 7)).decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_everything_is_counted():
    counts = Counts()
    counts.is_connected = True
    counts.sessions = counts.requests = 3
    counts.active, counts.upgrades = 2, 1
    counts.answered(200)
    counts.answered(404)
    counts.failed(Code.UPSTREAM)
    counts.refused("identity")
    counts.by_failed_step["dns"] += 1
    counts.bytes("in", StreamClass.BULK, 10)
    counts.bytes("in", StreamClass.BULK, 5)
    for seconds in (0.0005, 0.03, 9.0):
        counts.rtt(seconds)
    counts.stalled(0.5, begins=True)
    counts.opened(StreamKind.HTTP, StreamClass.NORMAL)
    counts.closed(StreamKind.HTTP, StreamClass.NORMAL)
    counts.open_latency(StreamKind.HTTP, 0.1)
    counts.stayed_awake(0.25)
    counts.compressed_plain_bytes, counts.compressed_wire_bytes = 1000, 90
    values = scrape(counts)
    expected = {
        ("riata_agent_connected",): 1,
        ("riata_agent_sessions_total",): 3,
        ("riata_agent_busy_poll_seconds_total",): 0.25,
        ("riata_agent_requests_total",): 3,
        ("riata_agent_exchanges",): 2,
        ("riata_agent_upgraded_exchanges",): 1,
        ("riata_agent_responses_total", "2xx"): 1,
        ("riata_agent_responses_total", "4xx"): 1,
        ("riata_agent_resets_total", "upstream"): 1,
        ("riata_agent_refusals_total", "identity"): 1,
        ("riata_agent_connect_failures_total", "dns"): 1,
        ("riata_agent_tunnel_bytes_total", "bulk", "in"): 15,
        ("riata_agent_window_stalled_seconds_total",): 0.5,
        ("riata_agent_rtt_seconds_count",): 3,
        ("riata_agent_rtt_seconds_bucket", "0.001"): 1,
        ("riata_agent_rtt_seconds_bucket", "0.05"): 2,
        ("riata_agent_rtt_seconds_bucket", "+Inf"): 3,
        ("riata_agent_kube_connections", "idle"): 2,
        ("riata_agent_kube_connections", "busy"): 3,
        ("riata_agent_compressed_bytes_total", "plain"): 1000,
        ("riata_agent_compressed_bytes_total", "wire"): 90,
        ("riata_agent_compressed_bodies",): 4,
        ("riata_agent_kube_waiting",): 1,
        ("riata_agent_tasks",): 7,
    }
    assert {key: values[key] for key in expected} == expected


def test_names_are_ours_and_labels_few():
    for name, *labels in scrape(Counts()):
        assert name.startswith(("riata_agent_", "process_"))
        assert len(labels) <= 2
