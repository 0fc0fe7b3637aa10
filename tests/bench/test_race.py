"""The race's arithmetic: medians, goals, the page; and that the Go peers build and deliver the same bytes (e2e)."""

from tests.bench.race import page
from tests.bench.race.rows import FAST, SLOW, Goal, Row
from tests.bench.race.verdicts import cell, judge, medians


async def _nothing(*_: object) -> dict[str, float]:
    return {}


def row(*goals: Goal) -> Row:
    return Row("r", _nothing, goals)


TABLE = {"r": {"riata": [{"x": 10.0, "z": 0.0}, {"x": 30.0, "z": 0.0}, {"x": 20.0, "z": 0.0}], "rd": [{"x": 8.0}]}}


def test_medians_and_cells() -> None:
    assert medians(TABLE["r"]["riata"]) == {"x": 20.0, "z": 0.0}
    assert medians([]) == {}
    assert cell(TABLE["r"]["riata"], "x") == "20 (10 to 30)"
    assert cell(TABLE["r"]["rd"], "x") == "8"
    assert cell([], "x") == ""


def test_goals_in_both_directions() -> None:
    goals = (Goal("x", "rd", 2.0), Goal("x", "rd", 3.0), Goal("x", "rd", 2.0, True), Goal("z", "rd", 0.0, True, 0.5))
    judged = judge(TABLE, [row(*goals)])
    assert [each.is_met for each in judged] == [True, False, False, True]
    assert [round(each.advantage, 2) for each in judged] == [1.25, 0.83, 0.8, 3.0]


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge(TABLE, [row(Goal("x", "yamux", 1.0), Goal("y", "rd", 1.0))]) == []


def test_every_goal_names_a_way_that_its_row_runs() -> None:
    for each in (*FAST, *SLOW):
        assert {goal.peer for goal in each.goals} <= set(each.ways), each.name


def test_the_page_has_the_part_that_is_written_and_the_picture_is_one() -> None:
    text = page.PAGE.read_text()
    assert text.count(page.BEGIN) == text.count(page.END) == 1
    drawn = page.picture(judge(TABLE, [row(Goal("x", "rd", 2.0), Goal("x", "rd", 3.0))]))
    assert drawn.count("<rect x=") == 2
    assert drawn.startswith("<svg ")
