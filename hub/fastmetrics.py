"""Metrics that are counted for every request: plain numbers, turned into samples when somebody scrapes.

prometheus_client takes a lock and several calls for each increment, a tenth of what a small request costs. These are
written by the event loop alone and read whole at each scrape, as its own ones are.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]


class Cell:
    """One number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    def dec(self) -> None:
        self.value -= 1.0


class Series:
    """Cells by label values: a counter, or with `is_gauge` a gauge. Registers itself."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, labels: Sequence[str], *, is_gauge: bool = False
    ) -> None:
        self._name = name
        self._text = text
        self._labelnames = tuple(labels)
        self._is_gauge = is_gauge
        self._cells: dict[Labels, Cell] = {}
        if not labels:
            self._cells[()] = Cell()
        registry.register(self)

    def cell(self, *labels: str) -> Cell:
        """The cell of these label values; keep it instead of asking again where it matters."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = Cell()
        return cell

    def remove(self, *labels: str) -> None:
        self._cells.pop(labels, None)

    def collect(self) -> Iterable[Metric]:
        kind = GaugeMetricFamily if self._is_gauge else CounterMetricFamily
        family = kind(self._name, self._text, labels=self._labelnames)
        for labels, cell in tuple(self._cells.items()):
            family.add_metric(labels, cell.value)
        yield family


class Flags:
    """A gauge, 1 or 0 by one label's values, that nobody counts: `read` gives all at each scrape, in the thread that
    renders. Registers itself."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, label: str) -> None:
        self._name = name
        self._text = text
        self._labelnames = (label,)
        self.read: Callable[[], Iterable[tuple[str, bool]]] = lambda: ()
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labelnames)
        for value, is_set in self.read():
            family.add_metric((value,), float(is_set))
        yield family


class Buckets:
    """One histogram's numbers."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self._bounds, value)] += 1
        self.sum += value


class Histogram:
    """Buckets by one label's values, or one set without a label. `bounds`: upper ones, ascending. Registers itself."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._text = text
        self._labelnames = tuple(labels)
        self._bounds = tuple(bounds)
        self._cells: dict[Labels, Buckets] = {}
        if not labels:
            self._cells[()] = Buckets(self._bounds)
        registry.register(self)

    def cell(self, *labels: str) -> Buckets:
        """As `Series.cell`."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = Buckets(self._bounds)
        return cell

    def observe(self, value: float) -> None:
        """For one without labels."""
        self._cells[()].observe(value)

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labelnames)
        names = [*(_number(bound) for bound in self._bounds), "+Inf"]
        for labels, cell in tuple(self._cells.items()):
            total, buckets = 0, []
            for name, count in zip(names, cell.counts, strict=True):
                total += count
                buckets.append((name, total))
            family.add_metric(labels, buckets, cell.sum)
        yield family


def _number(bound: float) -> str:
    """As prometheus_client writes it: 1.0, 0.0025."""
    return str(float(bound))
