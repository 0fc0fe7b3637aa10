"""Tables, names and documents."""

import pytest

from ctl import output

KIND = output.Kind("id", {"ID": lambda i: i.get("id"), "MANY": lambda i: i.get("many"), "OK": lambda i: i.get("ok")})


def test_cells_are_never_empty_and_columns_are_aligned() -> None:
    rows = [{"id": "a\nb", "many": ["x", "y"], "ok": True}, {"id": "longer-id", "many": [], "ok": False}, {"ok": None}]
    assert KIND.table(rows).splitlines() == [
        "ID          MANY   OK",
        "a b         x,y    yes",
        "longer-id   -      no",
        "-           -      -",
    ]


def test_an_empty_list_is_a_heading_no_name_and_an_empty_document(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("table", "name", "json", "yaml"):
        KIND.show_all([], form)  # type: ignore[arg-type]
    assert capsys.readouterr().out == 'ID   MANY   OK\n{\n  "items": []\n}\nitems: []\n'


def test_documents_escape_what_could_drive_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"a": "\x1b\x9b"}, "json")
    output.document({"a": "\x1b\x9b"}, "yaml")
    assert "\x1b" not in (text := capsys.readouterr().out)
    assert "\x9b" not in text


def test_labels_have_a_stable_order() -> None:
    assert output.labels({"labels": {"b": "2", "a": "1"}}) == "a=1,b=2"
    assert output.labels({}) == ""
