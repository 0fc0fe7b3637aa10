"""A foreign package `proto` is named with its cure, whether it shares our directory or comes first on the path."""

import os
import pathlib
import subprocess
import sys
import tomllib
import types

import pytest

from proto import distribution

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_our_own_package_passes() -> None:
    distribution.check()


def test_a_foreign_package_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = types.ModuleType("proto")
    foreign.__file__ = "/somewhere/site-packages/proto/__init__.py"
    monkeypatch.setitem(sys.modules, "proto", foreign)
    with pytest.raises(SystemExit) as caught:
        distribution.check()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "/somewhere/site-packages/proto/__init__.py" in said
    assert "virtual environment" in said


FOREIGN = {
    "another package": "class Message: ...\n",
    "one that lacks what it needs": "import no_such_package_of_google\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_foreign_package_first_on_the_path_is_named_too(tmp_path: pathlib.Path, script: str, content: str) -> None:
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "__init__.py").write_text(content)
    module, _, function = SCRIPTS[script].partition(":")
    # As the installed script does it; our packages come last, as an editable install's .pth file puts them.
    code = f"import sys; sys.path.append({str(ROOT)!r}); from {module} import {function}; {function}()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith(f"{script}: the Python package 'proto'")
    assert "virtual environment" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_scripts_are_the_three() -> None:
    assert sorted(SCRIPTS) == ["riata", "riata-agent", "riata-hub"]
