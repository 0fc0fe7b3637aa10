"""Run the rows, print them beside the last figures of each, keep them as JSON.

python -m tests.bench [--load BINARY] [--keep DIR] [ROW]…
"""

import argparse
import asyncio
import datetime
import subprocess
import sys
import tempfile
from pathlib import Path

import rich.console
import rich.table

from tests.bench import results, rig, rows


def build_load(directory: Path) -> Path:
    """Build the load client; Go keeps it cached, so a second build takes no time."""
    binary = directory / "load"
    source = Path(__file__).parent / "load"
    subprocess.run(["go", "build", "-trimpath", "-o", str(binary), "."], cwd=source, check=True)
    return binary


async def measure(load: Path, directory: Path, wanted: list[str]) -> dict[str, results.Figures]:
    """Run the wanted rows one after another on one rig."""
    measured: dict[str, results.Figures] = {}
    async with rig.running(directory, load) as running:
        for name in wanted:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            measured[name] = await rows.ROWS[name](running)
    return measured


def show(measured: dict[str, results.Figures], before: dict[str, results.Figures]) -> None:
    """Print one line a figure: now, last time, ratio."""
    table = rich.table.Table("row", "figure", "now", "last", "now / last", title="riata, hub + agent on this machine")
    for row, figures in measured.items():
        for name, value in figures.items():
            old = before.get(row, {}).get(name)
            ratio = f"{value / old:.2f}" if old else ""
            table.add_row(row, name, f"{value:,.2f}", f"{old:,.2f}" if old is not None else "", ratio)
    rich.console.Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--load", type=Path, help="a load client already built")
    parser.add_argument("--keep", type=Path, default=results.KEPT, metavar="DIR", help="where results are kept")
    parser.add_argument("row", nargs="*", help=f"rows to run (default all): {', '.join(rows.ROWS)}")
    arguments = parser.parse_args()
    wanted = arguments.row or list(rows.ROWS)
    if unknown := [name for name in wanted if name not in rows.ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="riata-bench-") as name:
        directory = Path(name)
        load = arguments.load or build_load(directory)
        measured = asyncio.run(measure(load, directory, wanted))
    show(measured, results.newest(arguments.keep))
    print(f"kept in {results.keep(arguments.keep, measured, datetime.datetime.now(datetime.UTC))}")


if __name__ == "__main__":
    main()
