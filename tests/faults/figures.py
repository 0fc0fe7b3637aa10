"""How a fault test is run and what it says: seeds, lengths, and one line for each figure."""

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.harness import tools
from tests.room import room

__all__ = ["commit", "number", "room", "seed", "show"]

PREFIX: Final = "RIATA_FAULTS_"


def number(name: str, otherwise: float) -> float:
    """A length of a test: `make faults` sets the long ones (RIATA_FAULTS_KILLS …), `make test` none."""
    return float(os.environ.get(PREFIX + name, otherwise))


def seed() -> int:
    """RIATA_FAULTS_SEED to replay a run, else another one each time."""
    given = os.environ.get(PREFIX + "SEED")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)


def commit() -> str:
    """The commit under test, with a + when something is changed."""
    command = ["git", "-C", str(tools.REPOSITORY), "describe", "--always", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or "unknown"


def show(row: str, the_seed: int, **figures: Any) -> None:
    """Print a row's figures with commit and seed; RIATA_FAULTS_KEEP names a file that gets them as JSON lines."""
    said = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in figures.items())
    print(f"\n{row} [{commit()}, seed {the_seed}]: {said}")
    if keep := os.environ.get(PREFIX + "KEEP"):
        with Path(keep).open("a") as file:
            file.write(json.dumps({"row": row, "commit": commit(), "seed": the_seed, **figures}) + "\n")


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
