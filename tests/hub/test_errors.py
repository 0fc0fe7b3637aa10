"""hub/errors.py: no two classes answer alike."""

from __future__ import annotations

import inspect

from hub import errors


def test_each_class_is_one_row_of_the_table() -> None:
    rows: dict[tuple[int, str], str] = {}
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if not issubclass(kind, errors.HubError) or kind is errors.HubError:
            continue
        row = (kind.http_status, kind.reason)
        assert row not in rows, f"{name} and {rows[row]} answer alike"
        rows[row] = name


def test_message_and_default() -> None:
    assert errors.NotFound().message == errors.NotFound.default_message
    assert str(errors.NotFound("gone")) == "gone"
