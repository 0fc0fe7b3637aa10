"""Seeds in virtual time; one that breaks a promise is printed, and `--seed` replays it.

python -m tests.faults.simulator [--seed N …] [--seeds COUNT] [--seconds S]
"""

import argparse
import collections
import sys
import time

from tests.faults import figures
from tests.faults.sim.seeds import Outcome, play


def play_many(first: int, count: int, seconds: float) -> tuple[int, collections.Counter[str], list[Outcome]]:
    """Seeds from `first` on, until there are `count` or `seconds` have passed: how many, all fates, those that broke a
    promise."""
    fates: collections.Counter[str] = collections.Counter()
    failed: list[Outcome] = []
    started, played = time.monotonic(), 0
    while played < count and time.monotonic() - started < seconds:
        outcome = play(first + played)
        played += 1
        fates += outcome.fates
        if outcome.broken:
            failed.append(outcome)
    return played, fates, failed


def show(outcome: Outcome) -> None:
    """How a seed went wrong, and how to see it again."""
    print(f"seed {outcome.seed}: python -m tests.faults.simulator --seed {outcome.seed}")
    for line in (*(f"  fault {fault}" for fault in outcome.faults), *(f"  BROKEN {each}" for each in outcome.broken)):
        print(line)


def replay(seeds: list[int]) -> int:
    """Each again; its trace tells whether two runs were the same."""
    outcomes = [play(seed) for seed in seeds]
    for outcome in outcomes:
        show(outcome)
        print(f"  {dict(outcome.fates)}\n  trace {outcome.trace}")
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="replay these")
    parser.add_argument("--seeds", type=int, default=1_000_000_000, help="how many at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long at most")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return replay(arguments.seed)
    first, started = figures.seed(), time.monotonic()
    played, fates, failed = play_many(first, arguments.seeds, arguments.seconds)
    for outcome in failed[:10]:
        show(outcome)
    per_minute = played / (time.monotonic() - started) * 60
    figures.show("simulator", first, seeds=played, failed=len(failed), seeds_per_minute=round(per_minute), **fates)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
