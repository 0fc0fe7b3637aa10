"""Kept results: one JSON file a run, in `.bench/` of the checkout, which neither git nor `make clean` touches."""

import datetime
import json
import os
import platform
from pathlib import Path

from tests.harness import tools

KEPT = Path(__file__).parents[2] / ".bench"

Figures = dict[str, float]


def keep(directory: Path, rows: dict[str, Figures], at: datetime.datetime) -> Path:
    """Write the figures with date and machine; the name sorts by time. Returns the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{at:%Y%m%dT%H%M%S.%f}.json"
    machine = {"python": tools.python(), "kernel": platform.release(), "cores": os.cpu_count()}
    path.write_text(json.dumps({"at": at.isoformat(), "machine": machine, "rows": rows}, indent=1) + "\n")
    return path


def newest(directory: Path) -> dict[str, Figures]:
    """The newest kept figures of each row: a run of one row hides nothing of what others measured before."""
    rows: dict[str, Figures] = {}
    for path in sorted(directory.glob("*.json")):
        rows.update(json.loads(path.read_text())["rows"])
    return rows
