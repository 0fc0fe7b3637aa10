"""Seeds in virtual time; one that breaks a promise is printed, and `--seed` replays it.

python -m tests.faults.simulator [--seed N …] [--seeds COUNT] [--seconds S] [--processes N]
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import sys
import time

from tests.faults import figures
from tests.faults.sim.seeds import Outcome, play

BATCH = 10
"""Seeds that a process plays before it says what came of them: half a second's work."""


@dataclasses.dataclass
class Played:
    """What a number of seeds came to: how many, all fates, those that broke a promise; how long they took in all, and
    of a processor's time."""

    count: int = 0
    fates: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failed: list[Outcome] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, other: "Played") -> None:
        self.count += other.count
        self.fates += other.fates
        self.failed += other.failed
        self.cpu_seconds += other.cpu_seconds


def play_many(first: int, count: int, seconds: float) -> Played:
    """Seeds from `first` on in this process, until there are `count` or `seconds` have passed."""
    played, started, cpu = Played(), time.monotonic(), time.process_time()
    while played.count < count and time.monotonic() - started < seconds:
        outcome = play(first + played.count)
        played.add(Played(1, outcome.fates, [outcome] if outcome.broken else []))
    played.seconds, played.cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    return played


def play_in_processes(first: int, count: int, seconds: float, processes: int) -> Played:
    """The same in several, since no seed has to do with another; one that breaks a promise is shown at once."""
    played, batches = Played(), (range(at, min(at + BATCH, first + count)) for at in range(first, first + count, BATCH))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        list(pool.map(_warm, range(processes)))  # what they import is no part of the figure
        started = time.monotonic()
        waiting: set[concurrent.futures.Future[Played]] = set()
        while True:
            while (
                len(waiting) < 2 * processes and time.monotonic() - started < seconds and (batch := next(batches, None))
            ):
                waiting.add(pool.submit(play_many, batch.start, len(batch), 3600.0))
            if not waiting:
                break
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for each in done:
                for outcome in each.result().failed:
                    show(outcome)
                played.add(each.result())
        played.seconds = time.monotonic() - started
    return played


def _warm(number: int) -> None:
    play(number)


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
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="one for each processor")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return replay(arguments.seed)
    first = figures.seed()
    played = play_in_processes(first, arguments.seeds, arguments.seconds, arguments.processes)
    figures.show("simulator", first, processes=arguments.processes, **figures_of(played))
    return 1 if played.failed else 0


def figures_of(played: Played) -> dict[str, int]:
    """For figures.show."""
    return {
        "seeds": played.count,
        "failed": len(played.failed),
        "seeds_per_minute": round(played.count / played.seconds * 60),
        "per_minute_of_processor": round(played.count / played.cpu_seconds * 60),
        **dict(sorted(played.fates.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
