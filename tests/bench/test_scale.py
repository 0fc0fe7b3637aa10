"""The fleet's arithmetic, its WebSocket, and the page."""

import datetime

import pytest

from tests.bench.race.page import PAGE
from tests.bench.scale import curve, page, probe
from tests.bench.scale.curve import judge


def sizes(*values: float, figure: str = "scrape ms") -> dict[int, dict[str, float]]:
    return {10**power: {figure: value} for power, value in enumerate(values, 1)}


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((3.0, 3.1, 3.2), "constant"),
        ((1.0, 10.0, 100.0), "linear"),
        ((50.0, 60.0, 160.0), "linear"),  # a base, and as much for each
        ((1.0, 10.0, 140.0), "linear"),  # within what caches and noise explain
        ((1.0, 10.0, 1000.0), "WORSE THAN LINEAR"),
        ((1.0, 1.0, 300.0), "WORSE THAN LINEAR"),
    ],
)
def test_what_a_curve_says(values: tuple[float, ...], word: str) -> None:
    assert [each.word for each in judge(sizes(*values))] == [word]


def test_the_cost_of_one_more_cluster() -> None:
    (verdict,) = judge(sizes(1.0, 10.0, 190.0))
    assert verdict.each == (0.1, 0.2)


def test_two_sizes_are_no_curve_and_a_missing_figure_is_left_out() -> None:
    assert [each.word for each in judge(sizes(1.0, 10.0))] == ["too few sizes"]
    assert judge({10: {"scrape ms": 1.0}, 100: {}, 1000: {"scrape ms": 1.0}}) == []


def test_a_quantile_is_one_of_the_samples() -> None:
    assert probe.quantile([], 0.99) == 0.0
    assert probe.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert probe.quantile([float(n) for n in range(1, 101)], 0.99) == 99.0


def test_the_page_has_the_part_that_is_written() -> None:
    text = PAGE.read_text()
    assert text.count(page.BEGIN) == text.count(page.END) == 1
    found = sizes(1.0, 10.0, 100.0)
    written = page.lines(found, judge(found), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
    assert "| scrape ms | 1 | 10 | 100 |" in written
    assert "| scrape ms | 0.1 | 0.1 | linear |" in written


def test_every_cost_of_the_curve_is_measured_once() -> None:
    assert len({cost.figure for cost in curve.COSTS}) == len(curve.COSTS)
