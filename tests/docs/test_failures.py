"""docs/operate/failures.md promises nothing that no test shows: each row names tests, and they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operate" / "failures.md"
HEADER = "| Failure | What users see | How fast | Measured | Shown by |"
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows() -> list[str]:
    """The rows of the page's tables, without the lines that rule them."""
    lines = PAGE.read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and line != HEADER]


def test_there_are_rows_and_each_has_every_column() -> None:
    assert len(rows()) >= 8
    for row in rows():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == HEADER.count("|") - 1, row
        assert all(cells), f"an empty cell: {row}"


def test_each_row_names_a_test_that_exists() -> None:
    for row in rows():
        named = TEST.findall(row.rsplit(" | ", 1)[1])
        assert named, f"no test: {row}"
        for file, function in named:
            text = (ROOT / file).read_text() if (ROOT / file).exists() else ""
            assert text, f"{file} is not there: {row}"
            assert not function or re.search(rf"^(?:async )?def {function}\b", text, re.MULTILINE), (
                f"{file}::{function}"
            )
