"""rows.toml is complete: every row of the attack list has its tests or says what it waits for."""

from __future__ import annotations

import ast
import functools
import pathlib
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
COUNTS = {"A": 19, "B": 17, "C": 10, "D": 16, "E": 20, "F": 10, "G": 7, "H": 12, "I": 8, "J": 10, "K": 10, "L": 1}
"""Rows of each table of the attack list. 2.I lists its cases in prose; 2.L is one rule."""

TABLES: dict[str, dict[str, dict[str, object]]] = tomllib.loads(
    pathlib.Path(__file__).with_name("rows.toml").read_text(encoding="utf-8")
)
ROWS = {name: row for table in TABLES.values() for name, row in table.items()}


def test_every_row_is_there() -> None:
    expected = [f"{table}{number}" for table, count in COUNTS.items() for number in range(1, count + 1)]
    assert list(ROWS) == expected


@functools.cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_tests_that_exist_or_waits(name: str) -> None:
    row = ROWS[name]
    assert set(row) <= {"tests", "waits"}
    assert row
    tests = row.get("tests", [])
    assert isinstance(tests, list)
    assert "tests" not in row or tests
    for node in tests:
        path, _, function = node.partition("::")
        assert (ROOT / path).is_file(), node
        assert function in functions_of(path), node
    if "waits" in row:
        assert isinstance(row["waits"], str)
        assert len(row["waits"]) > 8
