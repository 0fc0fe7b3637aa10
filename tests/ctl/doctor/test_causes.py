"""The operator's rows: complete, and no id twice, also not one of the way to the hub."""

import string

import pytest

from ctl.doctor import causes
from proto import causes as way
from proto.causes import Cause


@pytest.mark.parametrize("row", way.rows(vars(causes)), ids=lambda row: row.id)
def test_a_row_is_complete(row: Cause) -> None:
    assert row.what
    assert row.cure
    fields = {name for _, name, _, _ in string.Formatter().parse(row.what + row.cure) if name}
    known = {"said", "at", "path", "status", "url", "ours", "theirs", "name", "since", "context", "node", "arguments"}
    known |= {"command", "asked"}
    assert fields <= known


def test_ids_are_unique_over_both_tables() -> None:
    way.by_id([*way.rows(vars(way)), *way.rows(vars(causes))])
