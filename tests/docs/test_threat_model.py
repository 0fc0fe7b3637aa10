"""docs/threat-model.md: every claim names tests, every named test exists, and no component is without its letters."""

import re
from pathlib import Path

import pytest

from tests.security.test_rows import functions_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NODES = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
COMPONENTS = dict(re.findall(r"^### (.+)\n\n\| \| threat .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE))
"""Tables of STRIDE by component."""
CLAIMS = [
    row
    for table in re.findall(r"^\|.* shown by \|\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    for row in table.splitlines()
]
"""Every row that claims something."""


@pytest.mark.parametrize(("path", "name"), sorted(set(NODES)))
def test_a_named_test_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), path
    assert name in functions_of(path), f"{path}::{name}"


def test_every_claim_names_a_test() -> None:
    assert len(CLAIMS) > 80
    assert [row for row in CLAIMS if not re.search(r"\| (`tests/[\w/]+\.py::test_\w+` ?)+\|$", row)] == []


def test_nothing_that_looks_like_a_test_is_overlooked() -> None:
    assert PAGE.count("::") == len(NODES)


def test_every_component_has_its_table() -> None:
    words = ["CLI", "edge", "API", "Store", "Tunnel", "Cluster", "Node", "ServiceAccount", "CA", "Charts", "Workers"]
    assert [word for word in words if not any(word in name for name in COMPONENTS)] == []
    for name, table in COMPONENTS.items():
        letters = [row.split("|")[1].strip() for row in table.splitlines()]
        assert letters == sorted(letters, key="STRIDE".index), name
        assert {"S", "T", "I", "E"} <= set(letters) | ({"S", "E"} if name == "Store" else set()), name


def test_what_a_compromised_part_can_do_is_said_of_each() -> None:
    section = PAGE.split("## What a compromised part can and cannot do")[1].split("\n## ")[0]
    assert len(re.findall(r"^### ", section, re.MULTILINE)) == 4
    assert section.count("| it cannot | because | shown by |") == 4
