"""hub/memory.py: a quarter of what there is."""

from __future__ import annotations

import os
import pathlib

import pytest

from hub.memory import buffer_budget

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("104857600\n", 26_214_400), ("max\n", MACHINE // 4), (None, MACHINE // 4), (str(MACHINE * 2), MACHINE // 4)],
)
def test_the_smaller_limit_counts(tmp_path: pathlib.Path, content: str | None, expected: int) -> None:
    file = tmp_path / "memory.max"
    if content is not None:
        file.write_text(content, encoding="ascii")
    assert buffer_budget([file, tmp_path / "none"]) == expected
    assert buffer_budget([tmp_path / "none", file]) == expected
