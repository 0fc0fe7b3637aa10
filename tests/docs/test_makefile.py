"""The Makefile tells its user: `make help` lists every target, and every step says what it does and for how long."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Makefile").read_text()
RULES = dict(re.findall(r"^([a-z0-9-]+):(?! \w+ :=)[^\n]*\n((?:\t[^\n]*\n)*)", TEXT, re.MULTILINE))
"""Recipes by target; a variable of one target is no rule."""

PROGRAMS = ("-m tests.kube.build", "-m tests.kube.packages", "riata demo")
"""These speak for themselves, and say nothing of time when there is nothing to do."""

OURS = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"}
"""What the make that runs these tests hands on."""

TIME = re.compile(r"\([^)]*\b(a second|seconds|s|min|minute|minutes)\b[^)]*\)| for \S+ s each")


def _make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def test_help_lists_every_target() -> None:
    listed = re.findall(r"^  \x1b\[1m([a-z0-9-]+) *\x1b\[0m (\S.*)$", _make("help"), re.MULTILINE)
    assert [name for name, _ in listed] == list(RULES)
    assert {"help", "sync", "kube", "demo", "test", "lint", "types", "imports", "unit", "e2e", "bench"} <= set(RULES)


def test_every_target_is_phony() -> None:
    assert set(re.findall(r"^\.PHONY: (\S+)$", TEXT, re.MULTILINE)) == set(RULES)


@pytest.mark.parametrize("target", sorted(set(RULES) - {"help", "sync"}))
def test_every_step_says_what_it_does_and_how_long(target: str) -> None:
    recipe = RULES[target]
    if any(program in recipe for program in PROGRAMS):
        return
    said = re.search(r'^\t@echo "([^"]+)"$', recipe, re.MULTILINE)
    assert said is not None, "no line for the user"
    assert TIME.search(said[1]), said[1]


@pytest.mark.parametrize("target", ["kube", "node-packages", "bench", "demo", "test"])
def test_what_runs_python_runs_the_environments(target: str) -> None:
    # The system's may have no pip, and the project's packages are not in it.
    assert "$(PYTHON)" not in RULES[target]
    assert re.search(rf"^{target}: (\S+ )*sync\b", TEXT, re.MULTILINE)


@pytest.mark.parametrize(
    ("target", "argument"), [("demo", "--advisory"), ("test", ""), ("e2e", ""), ("node-packages", "")]
)
def test_missing_node_packages_end_everything_but_the_demo(target: str, argument: str) -> None:
    planned = _make("--dry-run", "--assume-old=.venv/.synced", target)
    (line,) = [line for line in planned.splitlines() if "tests.kube.packages" in line]
    assert line.removeprefix(".venv/bin/python -m tests.kube.packages").strip() == argument
