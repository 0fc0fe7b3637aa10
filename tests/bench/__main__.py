"""Run the rows, print them beside the last run's, keep them as JSON.

python -m tests.bench [--load BINARY] [--keep DIR] [ROW]…
"""

import argparse
import asyncio
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import rich.console
import rich.table

from tests.bench import rig, rows

RESULTS = Path("build/bench")


def build_load(directory: Path) -> Path:
    """Build the load client; Go keeps it cached, so a second build takes no time."""
    binary = directory / "load"
    source = Path(__file__).parent / "load"
    subprocess.run(["go", "build", "-trimpath", "-o", str(binary), "."], cwd=source, check=True)
    return binary


async def measure(load: Path, directory: Path, wanted: list[str]) -> dict[str, rows.Figures]:
    """Run the wanted rows one after another on one rig."""
    results: dict[str, rows.Figures] = {}
    async with rig.running(directory, load) as running:
        for name in wanted:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            results[name] = await rows.ROWS[name](running)
    return results


def last_run() -> dict[str, rows.Figures]:
    """Return the figures of the newest kept run, or nothing."""
    kept = sorted(RESULTS.glob("*.json"))
    if not kept:
        return {}
    figures: dict[str, rows.Figures] = json.loads(kept[-1].read_text())["rows"]
    return figures


def show(results: dict[str, rows.Figures], before: dict[str, rows.Figures]) -> None:
    """Print one line a figure: now, last time, ratio."""
    table = rich.table.Table("row", "figure", "now", "last", "now / last", title="riata, hub + agent on this machine")
    for row, figures in results.items():
        for name, value in figures.items():
            old = before.get(row, {}).get(name)
            ratio = f"{value / old:.2f}" if old else ""
            table.add_row(row, name, f"{value:,.2f}", f"{old:,.2f}" if old is not None else "", ratio)
    rich.console.Console(width=110).print(table)


def keep(results: dict[str, rows.Figures]) -> Path:
    """Write the figures with date and machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    path = RESULTS / f"{now:%Y%m%dT%H%M%S}.json"
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
    path.write_text(json.dumps({"at": now.isoformat(), "machine": machine, "rows": results}, indent=1) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--load", type=Path, help="a load client already built")
    parser.add_argument("row", nargs="*", help=f"rows to run (default all): {', '.join(rows.ROWS)}")
    arguments = parser.parse_args()
    wanted = arguments.row or list(rows.ROWS)
    if unknown := [name for name in wanted if name not in rows.ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="riata-bench-") as name:
        directory = Path(name)
        load = arguments.load or build_load(directory)
        results = asyncio.run(measure(load, directory, wanted))
    show(results, last_run())
    print(f"kept in {keep(results)}")


if __name__ == "__main__":
    main()
