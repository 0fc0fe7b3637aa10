"""One page of metrics for several processes: everything is summed.

Prometheus takes a total that falls for a restart, and would count the rest anew. So what an ended worker had counted,
as it was last seen, stays in the sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from hub.workers.messages import Families, Family

_LASTING: Final = frozenset({"counter", "histogram"})
_EARLIEST: Final = "_created"
"""Suffix of the moments at which counting began; of several the first holds."""

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels]


def measure(registry: CollectorRegistry) -> Families:
    """What a process has counted. Takes a while: for a thread."""
    return Families(
        tuple(
            Family(
                metric.name,
                metric.type,
                metric.documentation,
                tuple((each.name, tuple(each.labels.items()), each.value) for each in metric.samples),
            )
            for metric in registry.collect()
        )
    )


class Sums:
    """`forget` and `ended` may be called while a page is rendered in a thread; each replaces what it changes."""

    def __init__(self) -> None:
        self._latest: dict[int, Families] = {}
        self._ended: Families = Families(())

    def take(self, worker: int, families: Families) -> None:
        self._latest[worker] = families

    def ended(self, worker: int) -> None:
        """A worker has ended: what it counted stays, what it held does not."""
        latest = self._latest.pop(worker, None)
        if latest is not None:
            lasting = Families(tuple(family for family in latest.families if family.kind in _LASTING))
            self._ended = _summed([self._ended, lasting])

    def forget(self, cluster: str) -> None:
        """A cluster was deleted: ended workers show nothing of it either."""
        self._ended = Families(
            tuple(
                Family(
                    family.name,
                    family.kind,
                    family.text,
                    tuple(sample for sample in family.samples if ("cluster", cluster) not in sample[1]),
                )
                for family in self._ended.families
            )
        )

    def render(self, own: Families) -> bytes:
        """The text exposition of all, `own` being the main process's. Takes a while: for a thread."""
        summed = _summed([own, *tuple(self._latest.values()), self._ended])
        return generate_latest(_Page(summed))


class _Page:
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families.families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


def _summed(parts: Iterable[Families]) -> Families:
    """Families and samples in the order of their first appearance."""
    heads: dict[str, Family] = {}
    sums: dict[str, dict[Sample, float]] = {}
    for families in parts:
        for family in families.families:
            heads.setdefault(family.name, family)
            totals = sums.setdefault(family.name, {})
            for name, labels, value in family.samples:
                at = name, labels
                if name.endswith(_EARLIEST):
                    totals[at] = min(totals.get(at, value), value)
                else:
                    totals[at] = totals.get(at, 0.0) + value
    return Families(
        tuple(
            Family(name, head.kind, head.text, tuple((*at, value) for at, value in sums[name].items()))
            for name, head in heads.items()
        )
    )
