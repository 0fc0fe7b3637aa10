"""The cost curve: does the last tenfold of clusters cost more, for each of them, than the tenfold before?"""

import dataclasses
from typing import Final

from tests.bench.results import Figures

WORSE: Final = 1.5
"""A cluster of the upper decade may cost this many times one of the lower: caches, hash tables and noise."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """A figure of the curve. `noise`: a difference below it is none, in the figure's own unit."""

    figure: str
    noise: float


COSTS: Final = (
    Cost("hub MiB", 8.0),
    Cost("idle CPU, tunnels only %", 2.0),
    Cost("idle CPU %", 2.0),
    Cost("scrape ms", 5.0),
    Cost("scrape KB", 5.0),
    Cost("list API ms", 5.0),
    Cost("admin GET p50 ms", 2.0),
    Cost("GET through a tunnel p50 ms", 0.5),
    Cost("start-up s", 0.2),
    Cost("dropped: all back s", 1.5),
    Cost("killed: all back s", 1.5),
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One figure over all sizes. `each` is what one more cluster costs in each decade."""

    figure: str
    values: tuple[float, ...]
    each: tuple[float, ...]
    word: str


def judge(sizes: dict[int, Figures]) -> list[Verdict]:
    """Needs three sizes to say anything; figures that a size lacks are left out."""
    counts = sorted(sizes)
    found = []
    for cost in COSTS:
        if not all(cost.figure in sizes[count] for count in counts):
            continue
        values = tuple(sizes[count][cost.figure] for count in counts)
        steps = zip(counts, counts[1:], values, values[1:], strict=False)
        each = tuple((above - below) / (more - fewer) for fewer, more, below, above in steps)
        found.append(Verdict(cost.figure, values, each, _word(counts, values, each, cost.noise)))
    return found


def _word(counts: list[int], values: tuple[float, ...], each: tuple[float, ...], noise: float) -> str:
    if len(counts) < 3:
        return "too few sizes"
    if values[-1] - values[0] <= noise:
        return "constant"
    lower = max(each[-2], 0.0)
    excess = (each[-1] - lower * WORSE) * (counts[-1] - counts[-2])
    return "WORSE THAN LINEAR" if excess > noise else "linear"
