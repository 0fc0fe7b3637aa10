"""Tables, names and documents."""

import json

import pytest
import yaml

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
    """Control characters, and those that turn the direction of writing: `v1.0` shown where `v0.1` is said."""
    said = "\x1b\x9b \u202e\u2066\u200b Z\xfcrich"
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        output.document({"a": said}, form)
        text = capsys.readouterr().out
        assert text.isascii()
        assert "\x1b" not in text
        assert read(text) == {"a": said}


def test_strings_that_another_yaml_reader_takes_for_numbers_are_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    """PyYAML does not: it reads YAML 1.1, and `1234e56` is no number there."""
    output.document({"commit": "1234e56", "mode": "0o17", "n": "y", "name": "a.b/c"}, "yaml")
    assert capsys.readouterr().out == 'commit: "1234e56"\nmode: "0o17"\n"n": "y"\nname: a.b/c\n'


def test_labels_have_a_stable_order() -> None:
    assert output.labels({"labels": {"b": "2", "a": "1"}}) == "a=1,b=2"
    assert output.labels({}) == ""
