"""One page of metrics for several processes: everything is summed.

Prometheus takes a total that falls for a restart, and would count the rest anew. So what an ended worker had counted,
as it was last seen, stays in the sum.

Of 5,000 clusters that is 70,000 samples for each worker. No event loop writes or reads them: they travel as bytes, in
pieces, since msgspec holds the interpreter's lock for as long as it works on one.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from hub.workers.messages import Family, Measured

_LASTING: Final = frozenset({"counter", "histogram"})
_EARLIEST: Final = ("_created", "_start_time_seconds")
"""Suffixes of the moments at which counting, or a process, began; of several the first holds."""
PIECE_SAMPLES: Final = 250
"""Read in a millisecond."""
FORGOTTEN_MAX: Final = 10_000
"""Deleted clusters between two scrapes: numbers that are older than so many are not shown any more."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Family).decode


def measure(registry: CollectorRegistry) -> Iterator[Family]:
    """What a process has counted. Takes a while: for a thread."""
    for metric in registry.collect():
        samples = tuple((each.name, tuple(each.labels.items()), each.value) for each in metric.samples)
        yield Family(metric.name, metric.type, metric.documentation, samples)


def packed(families: Iterable[Family]) -> Measured:
    """For the way to the main process. Takes a while: for a thread."""
    return Measured(tuple(_encode(piece) for family in families for piece in _cut(family)))


def _cut(family: Family) -> Iterator[Family]:
    for at in range(0, max(len(family.samples), 1), PIECE_SAMPLES):
        yield Family(family.name, family.kind, family.text, family.samples[at : at + PIECE_SAMPLES])


class Sums:
    """Belongs to the event loop, and reads nothing there: that is left to the thread that renders."""

    def __init__(self) -> None:
        self._latest: Mapping[int, _Part] = {}
        """What each worker said last."""
        self._ended: tuple[_Part, ...] = ()
        """What workers had counted that have ended. Both are never changed, only replaced: a thread reads them."""

    def take(self, worker: int, measured: Measured) -> None:
        self._latest = {**self._latest, worker: _Part(measured)}

    def ended(self, worker: int) -> None:
        """A worker has ended: what it counted stays, what it held does not."""
        others = dict(self._latest)
        part = others.pop(worker, None)
        if part is not None:
            self._latest, self._ended = others, (*self._ended, part)

    def forget(self, cluster: str) -> None:
        """A cluster was deleted: workers that have ended, or end before they are asked again, show nothing of it."""
        self._latest = {
            worker: part.without(cluster)
            for worker, part in self._latest.items()
            if len(part.forgotten) < FORGOTTEN_MAX
        }
        self._ended = tuple(part.without(cluster) for part in self._ended if len(part.forgotten) < FORGOTTEN_MAX)

    async def render(self, own: CollectorRegistry) -> bytes:
        """The text exposition of all, `own` being the main process's; by a thread."""
        latest, ended = self._latest, self._ended
        page, summed = await asyncio.to_thread(_rendered, own, tuple(latest.values()), ended)
        if self._ended is ended:  # else a worker has ended meanwhile, or a cluster: the next page sums them up
            self._ended = summed
        return page


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """What one worker said, or several together that have ended."""

    measured: Measured
    forgotten: frozenset[str] = frozenset()
    """Clusters that were deleted since: not to be shown."""

    def without(self, cluster: str) -> _Part:
        return _Part(self.measured, self.forgotten | {cluster})

    def families(self) -> Iterator[Family]:
        for piece in self.measured.pieces:
            family = _decode(piece)
            yield _without(family, self.forgotten) if self.forgotten else family

    def lasting(self) -> Iterator[Family]:
        return (family for family in self.families() if family.kind in _LASTING)


def _rendered(
    own: CollectorRegistry, latest: tuple[_Part, ...], ended: tuple[_Part, ...]
) -> tuple[bytes, tuple[_Part, ...]]:
    """The page, and the parts of the workers that have ended as one."""
    if len(ended) > 1 or any(part.forgotten for part in ended):
        ended = (_Part(packed(_summed(part.lasting() for part in ended))),)
    parts = [measure(own), *(part.families() for part in latest), *(part.lasting() for part in ended)]
    return generate_latest(_Page(_summed(parts))), ended


def _without(family: Family, clusters: frozenset[str]) -> Family:
    kept = tuple(
        sample
        for sample in family.samples
        if not any(label == "cluster" and value in clusters for label, value in sample[1])
    )
    return Family(family.name, family.kind, family.text, kept)


class _Page:
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


def _summed(parts: Iterable[Iterable[Family]]) -> Iterator[Family]:
    """Families and samples in the order of their first appearance."""
    heads: dict[str, Family] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in parts:
        for family in families:
            heads.setdefault(family.name, family)
            totals = sums.setdefault(family.name, {})
            for name, labels, value in family.samples:
                at = name, labels
                if name.endswith(_EARLIEST):
                    totals[at] = min(totals.get(at, value), value)
                else:
                    totals[at] = totals.get(at, 0.0) + value
    for name, head in heads.items():
        yield Family(name, head.kind, head.text, tuple((*at, value) for at, value in sums[name].items()))
