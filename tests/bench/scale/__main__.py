"""One hub under 10, 100 and 1,000 clusters of 5 tunnels and 10 watches each, all with TLS: what it costs, and how the
cost grows. Simulated agents speak the real protocol from a few processes (agents.py); each size has a hub of its own.

python -m tests.bench.scale [--sizes N,N,N] [--write] [--keep DIR]
"""

import argparse
import asyncio
import datetime
import itertools
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Final

import rich.console
import rich.table

from tests.bench import results
from tests.bench.__main__ import build_load
from tests.bench.scale import curve, page, steps
from tests.bench.scale.fleet import PER_CLUSTER, WATCHES_PER_CLUSTER

WHOLE_MAX_S: Final = 360.0
"""The run is ended after this: what was measured until then is shown and kept."""
_SPARE: Final = 2_500
"""Descriptors of the hub beyond those of tunnels and watches: its reserve, and 10 % that it never uses."""


def raise_descriptors(clusters: int) -> None:
    """Raise the soft limit to the hard one, and the hard one where we may; children inherit both.

    Raises RuntimeError when a hub of this many clusters would not fit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clusters * (PER_CLUSTER + WATCHES_PER_CLUSTER) + _SPARE
    if hard != resource.RLIM_INFINITY and hard < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
        except (OSError, ValueError):
            raise RuntimeError(
                f"{clusters} clusters need {needed} open files, the hard limit is {hard}: raise it (ulimit -Hn, as"
                " root), or give smaller --sizes"
            ) from None
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def measure(directory: Path, load: Path, wanted: list[int]) -> dict[int, results.Figures]:
    """Size after size. One that fails, or that WHOLE_MAX_S cuts short, is told and left out."""
    sizes: dict[int, results.Figures] = {}
    try:
        async with asyncio.timeout(WHOLE_MAX_S):
            for clusters in wanted:
                try:
                    sizes[clusters] = await steps.measure(directory / str(clusters), load, clusters)
                except RuntimeError as problem:
                    print(f"{clusters} clusters: {problem}", file=sys.stderr)
    except TimeoutError:
        print(f"cut short after {WHOLE_MAX_S:.0f} s", file=sys.stderr)
    return sizes


def show(sizes: dict[int, results.Figures], judged: list[curve.Verdict]) -> None:
    """Print all figures by size, then the curve."""
    console = rich.console.Console(width=130)
    counts = sorted(sizes)
    table = rich.table.Table("figure", *(f"{count:,}" for count in counts), title="one hub, by number of clusters")
    for name in dict.fromkeys(name for count in counts for name in sizes[count]):
        table.add_row(name, *(page.number(sizes[count].get(name)) for count in counts))
    console.print(table)
    steps_shown = [f"{low:,} to {high:,}" for low, high in itertools.pairwise(counts)]
    growth = rich.table.Table("cost of one more cluster", *steps_shown, "verdict", title="cost curve")
    for each in judged:
        growth.add_row(each.figure, *(f"{value:.3g}" for value in each.each), each.word)
    console.print(growth)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument("--sizes", default="10,100,1000", metavar="N,N,N", help="numbers of clusters")
    parser.add_argument("--load", type=Path, help="a load client already built")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show a kept result instead of measuring")
    parser.add_argument(
        "--keep", type=Path, default=results.KEPT / "scale", metavar="DIR", help="where results are kept"
    )
    arguments = parser.parse_args()
    now = datetime.datetime.now(datetime.UTC)
    if arguments.show is not None:
        kept = json.loads(arguments.show.read_text())["rows"]
        sizes = {int(name.split()[0]): figures for name, figures in kept.items()}
    else:
        wanted = sorted(int(size) for size in arguments.sizes.split(","))
        raise_descriptors(wanted[-1])
        with tempfile.TemporaryDirectory(prefix="riata-scale-") as name:
            directory = Path(name)
            sizes = asyncio.run(measure(directory, arguments.load or build_load(directory), wanted))
    if not sizes:
        sys.exit("nothing was measured")
    judged = curve.judge(sizes)
    show(sizes, judged)
    if arguments.show is None:
        rows = {f"{count} clusters": figures for count, figures in sizes.items()}
        print(f"kept in {results.keep(arguments.keep, rows, now)}")
    if arguments.write:
        page.write(sizes, judged, now)


if __name__ == "__main__":
    main()
