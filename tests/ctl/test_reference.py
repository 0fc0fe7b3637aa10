"""docs/reference/cli.md is what the command tree says, and nothing of the tree is missing from it."""

import pathlib

from cyclopts import App

from ctl import cli, errors, reference

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def _commands(app: App, path: tuple[str, ...] = ("riata",)) -> list[tuple[tuple[str, ...], App]]:
    found = [(path, app)]
    for name in app.resolved_commands():
        if not name.startswith("-"):
            found += _commands(app[name], (*path, name))
    return found


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference.page(), "run: python -m ctl.reference > docs/reference/cli.md"


def test_every_command_and_every_option_is_on_the_page() -> None:
    text = PAGE.read_text()
    commands = _commands(cli.build())
    assert len(commands) > 20
    for path, app in commands:
        assert f"# {' '.join(path)}\n" in text
        if app.default_command is not None:
            for argument in app.assemble_argument_collection():
                names = [n for n in argument.names if n.startswith("--")] if argument.show else []
                assert all(name in text for name in names), (path, names)


def test_every_exit_code_is_on_the_page() -> None:
    for code in errors.Exit:
        assert f"| {code.value} | {code.meaning} |" in PAGE.read_text()
