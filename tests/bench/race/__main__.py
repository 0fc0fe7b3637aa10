"""Run the race and print it: medians and ranges, ratios, goals met and missed.

python -m tests.bench.race [--rounds N] [--only TEXT] [--plain] [--write] [--keep DIR] [--show FILE]
"""

import argparse
import asyncio
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import rich.console
import rich.table

from tests.bench import processes, results
from tests.bench.race import page, rows, verdicts, ways
from tests.bench.race.rows import Figures, Row
from tests.bench.race.verdicts import Table

SOURCE = Path(__file__).parent
SLOW_LINK = ways.Link(delay_s=0.025, bytes_per_s=8_400_000)
STRANGERS_MAX = 0.15
"""CPU share of one core that other processes may take during a measurement; above, it is repeated."""
REPEATS_MAX = 3


def build(directory: Path, source: Path, name: str) -> Path:
    """Build a Go program of the bench; Go keeps it cached."""
    binary = directory / name
    subprocess.run(["go", "build", "-trimpath", "-o", str(binary), "."], cwd=source, check=True)
    return binary


async def measure(course: ways.Course, row: Row, way: ways.Way) -> Figures:
    """One measurement, repeated while the machine was busy with something else."""
    for _ in range(REPEATS_MAX):
        busy, total = processes.busy_share()
        own = sum(map(processes.cpu_seconds, course.pids)) + processes.children_seconds()
        figures = await row.measure(course, way)
        busy_now, total_now = processes.busy_share()
        own_now = sum(map(processes.cpu_seconds, course.pids)) + processes.children_seconds()
        elapsed = (total_now - total) / processes.CORES
        strangers = ((busy_now - busy) - (own_now - own)) / elapsed if elapsed else 0.0
        if strangers <= STRANGERS_MAX:
            break
        print(f"  {way.name}: others took {strangers:.2f} of a core, again", file=sys.stderr)
    return figures


async def run(course: ways.Course, wanted: list[Row], rounds: int) -> Table:
    """Interleaved: every way once in each round of a row."""
    await verify(course)
    table: Table = {}
    for row in wanted:
        print(f"racing: {row.name}", file=sys.stderr, flush=True)
        table[row.name] = {name: [] for name in row.ways if name in course.ways}
        for _ in range(rounds):
            for name, measured in table[row.name].items():
                try:
                    measured.append(await measure(course, row, course.ways[name]))
                except RuntimeError as problem:
                    print(f"  {problem}", file=sys.stderr)
    return table


async def verify(course: ways.Course) -> None:
    """Every way must deliver the same bytes as the direct one before its speed means anything."""
    sums = {name: await course.run(way, "verify") for name, way in course.ways.items()}
    reference = next(iter(sums.values()))
    if wrong := [name for name, each in sums.items() if each != reference]:
        raise RuntimeError(f"other bytes than the direct way's: {', '.join(wrong)}")


def show(table: Table, wanted: list[Row]) -> rich.table.Table:
    names = [name for name in ("direct", "riata", *ways.PEERS) if any(name in row for row in table.values())]
    shown = rich.table.Table("row", "figure", *names, title="median (lowest to highest)")
    for row in wanted:
        found = {name: table[row.name].get(name, []) for name in names}
        for figure in verdicts.figures_of(found.values()):
            shown.add_row(row.name, figure, *(verdicts.cell(found[name], figure) for name in names))
    return shown


def show_goals(judged: list[verdicts.Verdict]) -> rich.table.Table:
    shown = rich.table.Table("row", "goal", "riata", "bound", "advantage", "", title="goals")
    for each in judged:
        verdict = "met" if each.is_met else "MISSED"
        shown.add_row(each.row, each.goal, f"{each.ours:,.4g}", f"{each.bound:,.4g}", f"{each.advantage:.2f}", verdict)
    return shown


async def race(arguments: argparse.Namespace, directory: Path) -> tuple[Table, list[Row]]:
    load = build(directory, SOURCE.parent / "load", "load")
    peers = build(directory, SOURCE, "race")
    table: Table = {}
    ran: list[Row] = []
    for name, candidates, link in (("fast", rows.FAST, None), ("slow", rows.SLOW, SLOW_LINK)):
        wanted = [row for row in candidates if not arguments.only or arguments.only in row.name]
        if not wanted:
            continue
        names = [way for way in ("direct", "riata", *ways.PEERS) if any(way in row.ways for row in wanted)]
        place = directory / name
        place.mkdir()
        async with ways.course(place, load, peers, names, tls=not arguments.plain, link=link) as course:
            table |= await run(course, wanted, arguments.rounds)
        ran += wanted
    return table, ran


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-race", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way and row")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name contains this")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show a kept result instead of racing")
    parser.add_argument("--plain", action="store_true", help="peers without TLS on front and tunnel")
    parser.add_argument(
        "--keep", type=Path, default=results.KEPT / "race", metavar="DIR", help="where results are kept"
    )
    arguments = parser.parse_args()
    if arguments.show is not None:
        table = page.read(arguments.show)
        ran = [row for row in (*rows.FAST, *rows.SLOW) if row.name in table]
    else:
        with tempfile.TemporaryDirectory(prefix="riata-race-") as name:
            table, ran = asyncio.run(race(arguments, Path(name)))
    console = rich.console.Console(width=170)
    console.print(show(table, ran))
    judged = verdicts.judge(table, ran)
    console.print(show_goals(judged))
    now = datetime.datetime.now(datetime.UTC)
    if arguments.show is None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        path = arguments.keep / f"{now:%Y%m%dT%H%M%S}.json"
        path.write_text(json.dumps({"at": now.isoformat(), "tls": not arguments.plain, "rows": table}, indent=1) + "\n")
        print(f"kept in {path}")
    if arguments.write:
        page.write(table, judged, is_tls=not arguments.plain, at=now)
    print(f"{sum(each.is_met for each in judged)} of {len(judged)} goals met")


if __name__ == "__main__":
    main()
