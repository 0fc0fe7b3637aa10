"""The race's part of docs/performance.md, and its picture: written by `make bench-race ARGS=--write`."""

import datetime
import html
import json
import re
from pathlib import Path

from tests.bench import processes
from tests.bench.race.verdicts import Table, Verdict, cell, figures_of
from tests.bench.race.ways import PEERS
from tests.harness import tools

PAGE = tools.REPOSITORY / "docs" / "performance.md"
PICTURE = tools.REPOSITORY / "docs" / "performance.svg"
BEGIN, END = "<!-- begin race -->", "<!-- end race -->"
BEGIN_PLAIN, END_PLAIN = "<!-- begin race without TLS -->", "<!-- end race without TLS -->"
_BAR, _LEFT, _WIDTH = 22, 430, 380


def write(table: Table, judged: list[Verdict], *, is_tls: bool, at: datetime.datetime) -> None:
    """Replace the marked part of the page, and the picture, which shows the race with TLS."""
    begin, end = (BEGIN, END) if is_tls else (BEGIN_PLAIN, END_PLAIN)
    replace(begin, end, _lines(table, judged, is_tls=is_tls, at=at))
    if is_tls:
        PICTURE.write_text(picture(judged))


def replace(begin: str, end: str, lines: list[str]) -> None:
    """Put the lines between two marks of the page, in the place of what is there."""
    part = "\n".join([begin, *lines, end])
    PAGE.write_text(re.sub(rf"{begin}.*{end}", lambda _: part, PAGE.read_text(), flags=re.DOTALL))


def _lines(table: Table, judged: list[Verdict], *, is_tls: bool, at: datetime.datetime) -> list[str]:
    names = [name for name in ("direct", "riata", *PEERS) if any(name in row for row in table.values())]
    secured = "TLS on every leg of every way" if is_tls else "peers without TLS on front and tunnel"
    rounds = max(len(each) for row in table.values() for each in row.values())
    lines = [
        f"{at:%Y-%m-%d}, {processes.CORES} cores, {tools.python()}, {secured}; medians of {rounds} "
        "interleaved rounds (lowest to highest).",
        "",
        f"| row | figure | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for row, found in table.items():
        lines += [
            f"| {row} | {figure} | {' | '.join(cell(found.get(name, []), figure) for name in names)} |"
            for figure in figures_of(found.values())
        ]
    lines += ["", f"Goals met: {sum(each.is_met for each in judged)} of {len(judged)}.", ""]
    lines += ["| row | goal | riata | bound | |", "|---|---|---|---|---|"]
    for each in judged:
        verdict = "met" if each.is_met else "**missed**"
        lines.append(f"| {each.row} | {each.goal} | {each.ours:,.4g} | {each.bound:,.4g} | {verdict} |")
    return lines


def picture(judged: list[Verdict]) -> str:
    """One bar a goal: how far riata is on the good side of its bound (the line), on a scale to three times it."""
    height = _BAR * (len(judged) + 1)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 70}" height="{height}"',
             ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']  # fmt: skip
    for number, each in enumerate(judged):
        top = number * _BAR + 6
        share = min(each.advantage, 3.0) / 3.0 * _WIDTH
        colour = "#2a7d4f" if each.is_met else "#b4442f"
        text = html.escape(f"{each.row}: {each.goal}")
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 12}" text-anchor="end">{text}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{share:.0f}" height="{_BAR - 6}" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + share + 5:.0f}" y="{top + 12}">{each.advantage:.2f}</text>')
    line = _LEFT + _WIDTH / 3
    parts.append(f'<line x1="{line}" x2="{line}" y1="0" y2="{height - _BAR}" stroke="black" stroke-dasharray="3"/>')
    parts.append(f'<text x="{line}" y="{height - 6}" text-anchor="middle">goal</text></svg>\n')
    return "".join(parts)


def read(path: Path) -> Table:
    """The table of a kept result."""
    rows: Table = json.loads(path.read_text())["rows"]
    return rows
