"""The fleet's part of docs/performance.md, written by `make bench-scale ARGS=--write`."""

import datetime
import itertools
from typing import Final

from tests.bench import processes
from tests.bench.race.page import replace
from tests.bench.results import Figures
from tests.bench.scale.curve import Verdict
from tests.harness import tools

BEGIN: Final = "<!-- begin scale -->"
END: Final = "<!-- end scale -->"


def write(sizes: dict[int, Figures], judged: list[Verdict], at: datetime.datetime) -> None:
    """Replace the marked part of the page."""
    replace(BEGIN, END, lines(sizes, judged, at))


def lines(sizes: dict[int, Figures], judged: list[Verdict], at: datetime.datetime) -> list[str]:
    """The part as Markdown: every figure by size, then the curve."""
    counts = sorted(sizes)
    header = " | ".join(f"{count:,} clusters" for count in counts)
    names = dict.fromkeys(name for count in counts for name in sizes[count])
    return [
        f"{at:%Y-%m-%d}, {processes.CORES} cores, {tools.python()}, one hub process.",
        "",
        f"| figure | {header} |",
        "|---|" + "---|" * len(counts),
        *(f"| {name} | {' | '.join(number(sizes[count].get(name)) for count in counts)} |" for name in names),
        "",
        "| cost | " + " | ".join(_decades(counts)) + " | verdict |",
        "|---|" + "---|" * len(counts),
        *(
            f"| {each.figure} | {' | '.join(f'{value:.3g}' for value in each.each)} | {each.word.lower()} |"
            for each in judged
        ),
    ]


def _decades(counts: list[int]) -> list[str]:
    return [f"one cluster more, {low:,} to {high:,}" for low, high in itertools.pairwise(counts)]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
