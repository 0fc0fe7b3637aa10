"""What a race's figures say: medians, cells of tables, goals met and missed."""

import dataclasses
import statistics
from collections.abc import Iterable

from tests.bench.race.rows import Figures, Row

Table = dict[str, dict[str, list[Figures]]]
"""Row → way → figures of each round."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One goal that could be judged."""

    row: str
    goal: str
    ours: float
    bound: float
    is_most: bool
    is_met: bool

    @property
    def advantage(self) -> float:
        """How many times better than the bound: above 1 is met."""
        better, worse = (self.bound, self.ours) if self.is_most else (self.ours, self.bound)
        if worse <= 0:
            return 1.0 if better <= 0 else 3.0
        return better / worse


def medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]} if rounds else {}


def figures_of(ways: Iterable[list[Figures]]) -> list[str]:
    """The names of all figures of a row, in their order."""
    return list(dict.fromkeys(figure for rounds in ways for each in rounds for figure in each))


def cell(rounds: list[Figures], figure: str) -> str:
    values = [each[figure] for each in rounds if figure in each]
    if not values:
        return ""
    middle = f"{statistics.median(values):,.4g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.3g} to {max(values):,.3g})"


def judge(table: Table, wanted: list[Row]) -> list[Verdict]:
    """Every goal whose figures are there."""
    judged = []
    for row in wanted:
        ours = medians(table[row.name].get("riata", []))
        for goal in row.goals:
            peer = medians(table[row.name].get(goal.peer, []))
            if goal.figure in ours and (goal.figure in peer or not goal.factor):
                value, bound = ours[goal.figure], goal.bound(peer.get(goal.figure, 0.0))
                met = value <= bound if goal.is_most else value >= bound
                judged.append(Verdict(row.name, str(goal), value, bound, goal.is_most, met))
    return judged
