"""hub/fastmetrics.py: the same exposition as prometheus_client's own metrics, from plain numbers."""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

from hub.fastmetrics import Flags, Histogram, Series

BOUNDS = (0.001, 0.0025, 1.0, 60.0)
VALUES = (0.0, 0.001, 0.002, 0.5, 1.0, 61.0)


def page(registry: CollectorRegistry) -> list[str]:
    """The exposition without the library's creation times, which say when a child was made."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_histogram_reads_like_the_librarys() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    fast = Histogram(ours, "x_seconds", "Text.", ["verb"], BOUNDS)
    slow = prometheus_client.Histogram("x_seconds", "Text.", ["verb"], buckets=BOUNDS, registry=theirs)
    for value in VALUES:
        fast.cell("get").observe(value)
        slow.labels("get").observe(value)
    assert page(ours) == page(theirs)


def test_a_histogram_without_labels() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram(ours, "x_seconds", "Text.", [], BOUNDS).observe(0.2)
    prometheus_client.Histogram("x_seconds", "Text.", buckets=BOUNDS, registry=theirs).observe(0.2)
    assert page(ours) == page(theirs)


def test_counters_and_gauges_read_like_the_librarys() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = Series(ours, "x", "Text.", ["a", "b"])
    gauge = Series(ours, "y", "More.", ["a"], is_gauge=True)
    bare = Series(ours, "z", "Bare.", [])
    slow_counter = prometheus_client.Counter("x", "Text.", ["a", "b"], registry=theirs)
    slow_gauge = prometheus_client.Gauge("y", "More.", ["a"], registry=theirs)
    slow_bare = prometheus_client.Counter("z", "Bare.", registry=theirs)
    for cell, child in ((counter.cell("1", "2"), slow_counter.labels("1", "2")), (bare.cell(), slow_bare)):
        cell.inc()
        cell.inc(2.5)
        child.inc()
        child.inc(2.5)
    for times in range(3):
        gauge.cell('e"vil\n').inc()
        slow_gauge.labels('e"vil\n').inc()
        if times == 1:
            gauge.cell('e"vil\n').dec()
            slow_gauge.labels('e"vil\n').dec()
    assert page(ours) == page(theirs)


def test_flags_are_read_at_each_scrape_and_kept_nowhere() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    flags, now = Flags(ours, "x", "Text.", "a"), {'e"vil\n': True, "b": False}
    slow = prometheus_client.Gauge("x", "Text.", ["a"], registry=theirs)
    assert page(ours) == page(theirs)  # nobody has been named who knows
    flags.read = now.items
    slow.labels('e"vil\n').set(1)
    slow.labels("b").set(0)
    assert page(ours) == page(theirs)
    del now["b"]
    slow.remove("b")
    assert page(ours) == page(theirs)


def test_what_is_removed_is_gone_and_a_cell_is_one() -> None:
    registry = CollectorRegistry()
    series = Series(registry, "x", "Text.", ["a"])
    assert series.cell("1") is series.cell("1")
    series.cell("1").inc()
    series.remove("1")
    series.remove("1")
    assert registry.get_sample_value("x_total", {"a": "1"}) is None
