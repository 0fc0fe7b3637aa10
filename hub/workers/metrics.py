"""One page of metrics for several processes: everything is summed.

Prometheus takes a total that falls for a restart, and would count the rest anew. So what an ended worker had counted,
as it was last seen, stays in the sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from hub.workers.messages import Families, Family

_LASTING: Final = frozenset({"counter", "histogram"})
_EARLIEST: Final = ("_created", "_start_time_seconds")
"""Suffixes of the moments at which counting, or a process, began; of several the first holds."""

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
    """Everything but `render` belongs to one thread. A page is rendered in another meanwhile: it takes what has been
    counted in one look, and nothing that is there is ever changed."""

    def __init__(self) -> None:
        self._counted = _Counted({}, Families(()))

    def take(self, worker: int, families: Families) -> None:
        self._counted = _Counted({**self._counted.latest, worker: families}, self._counted.ended)

    def ended(self, worker: int) -> None:
        """A worker has ended: what it counted stays, what it held does not."""
        others = dict(self._counted.latest)
        latest = others.pop(worker, None)
        if latest is not None:
            lasting = Families(tuple(family for family in latest.families if family.kind in _LASTING))
            self._counted = _Counted(others, _summed([self._counted.ended, lasting]))

    def forget(self, cluster: str) -> None:
        """A cluster was deleted: workers that have ended, or end before they are asked again, show nothing of it."""
        latest = {worker: _without(families, cluster) for worker, families in self._counted.latest.items()}
        self._counted = _Counted(latest, _without(self._counted.ended, cluster))

    def render(self, own: Families) -> bytes:
        """The text exposition of all, `own` being the main process's. Takes a while: for a thread."""
        counted = self._counted
        return generate_latest(_Page(_summed([own, *counted.latest.values(), counted.ended])))


@dataclasses.dataclass(frozen=True, slots=True)
class _Counted:
    """Never changed, only replaced: a worker that ends is in one of the two at any moment, and in no moment in both."""

    latest: Mapping[int, Families]
    """What each worker said last."""
    ended: Families
    """What workers had counted that have ended."""


def _without(families: Families, cluster: str) -> Families:
    return Families(
        tuple(
            Family(
                family.name,
                family.kind,
                family.text,
                tuple(sample for sample in family.samples if ("cluster", cluster) not in sample[1]),
            )
            for family in families.families
        )
    )


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
