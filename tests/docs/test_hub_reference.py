"""The hub's reference pages say what the code does: every setting, route, error code and metric is in them."""

from __future__ import annotations

import pytest

from hub import cli, config, reference
from hub.api.server import ROUTES
from proto.errors import Code

CURE = "run `.venv/bin/python -m hub.reference` and look at the difference"


def page(name: str) -> str:
    return (reference.DIRECTORY / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", reference.pages())
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert page(name) == reference.pages()[name], CURE


def test_every_setting_is_documented() -> None:
    text = page("config.md")
    assert [name for name, _ in config.fields() if f"`{config.environment_name(name)}`" not in text] == []


def test_every_route_is_documented() -> None:
    text = page("api.md")
    assert [route.name for route in ROUTES if f"## {route.method} `{route.path}`" not in text] == []


def test_every_error_is_documented() -> None:
    text = page("errors.md")
    assert [error.__name__ for error in reference.hub_errors() if f"`{error.__name__}`" not in text] == []
    assert [code.name for code in Code if f"| {code.value} | `{code.name}` |" not in text] == []


def test_every_metric_is_documented() -> None:
    text = page("metrics.md")
    found = [name for name, *_ in reference.metrics()]
    assert len(found) > 10
    assert [name for name in found if f"`{name}`" not in text] == []


def test_every_setting_has_a_docstring() -> None:
    hints = dict(config.fields())
    groups = {name: config.Settings.__dataclass_fields__[name] for name in config.GROUPS}
    assert set(groups) == set(config.GROUPS)
    documented = set(reference.attribute_docs(config.Settings))
    assert {name for name in hints if "." not in name} <= documented


def test_flags_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["serve", "--help"])
    shown = capsys.readouterr().out
    flags = {f"--{name.replace('_', '-')}" for name in reference._FLAGS}
    assert {flag for flag in flags if flag not in shown} == set()
