"""What the pages for operators tell to type is understood: each command is there, with each of its options."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from agent import cli as agent_cli
from ctl import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "operate").glob("*.md"))
TREE = cli.build()
COMMAND = re.compile(r"(?:^|[`(|;]\s*|-- )(riata(?:-agent)? [a-z][^`|;>&)#\n]*)")


def commands(page: Path) -> list[str]:
    """Every command line of `riata` and `riata-agent`: in code blocks, lines joined, and between backticks."""
    text = page.read_text().replace("\\|", "|")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [match.strip() for line in lines for match in COMMAND.findall(line)]


def unknown(command: str) -> str:
    """What of a command line no program knows; empty when all is well."""
    program, *words = shlex.split(command.replace("…", "").replace("[", "").replace("]", ""))
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    if program == "riata-agent":
        known = {flag for flag, *_ in (*agent_cli.FLAGS, *agent_cli.SWITCHES)} | {"--mode", "--output", "--help"}
        modes = {*agent_cli.MODES, agent_cli.DOCTOR}
        return ", ".join(
            [option for option in options if option not in known] + [w for w in words[:1] if w not in modes]
        )
    app, path = TREE, ["riata"]
    for word in words:
        if "|" in word or word not in app.resolved_commands():
            break
        app, path = app[word], [*path, word]
    if app.default_command is None and not any("|" in word for word in words[:2]):
        return f"{' '.join(path)} needs a command, not {words[len(path) - 1 : len(path)]}"
    if app.default_command is None:
        return ""
    known = {name for argument in app.assemble_argument_collection() for name in argument.names} | {"--help"}
    return ", ".join(option for option in options if option not in known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_understood(page: Path) -> None:
    assert {command: what for command in commands(page) if (what := unknown(command))} == {}


def test_commands_are_found_and_nonsense_is_not_understood() -> None:
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 60
    assert any(command.startswith("riata clusters manifest berlin") for command in found)
    assert unknown("riata clusters manifset berlin")
    assert unknown("riata clusters create berlin --lable a=b") == "--lable"
    assert unknown("riata-agent cluster --hub-uri x") == "--hub-uri"


@pytest.mark.parametrize("chart", ["riata-agent", "riata-hub"])
def test_the_sizes_are_those_of_the_charts(chart: str) -> None:
    resources = yaml.safe_load((ROOT / "deploy" / "charts" / chart / "values.yaml").read_text())["resources"]
    request, limit = (re.sub(r"(\d)([MG]i)$", r"\1 \2B", resources[kind]["memory"]) for kind in ("requests", "limits"))
    assert f"(request {request}, limit {limit})" in (ROOT / "docs" / "operate" / "install.md").read_text()
