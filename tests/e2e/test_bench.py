"""`make bench` measures: one row of it, end to end. Needs Go, which builds its load client."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import tools
from tests.kube import toolchain

ROW = "GET 1 KiB, 1 connection"


@pytest.fixture(scope="module")
def go() -> Path:
    """The directory of a Go toolchain: the one on PATH, or the one that `make kube` provides."""
    try:
        return Path(toolchain.find()).parent
    except toolchain.ToolchainError as problem:
        pytest.skip(f"needs Go: {problem}")


@pytest.mark.timeout(180)
def test_a_row_is_measured_kept_and_compared(go: Path, tmp_path: Path) -> None:
    earlier = {"rows": {ROW: {"requests/s": 1.0}, "idle memory": {"hub MiB": 2.0}}}
    (tmp_path / "20200101T000000.json").write_text(json.dumps(earlier))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--keep", str(tmp_path), ROW],
        cwd=tools.REPOSITORY,
        env={**os.environ, "PATH": f"{go}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept = max(tmp_path.glob("*.json"))
    assert f"kept in {kept}" in done.stdout
    figures = json.loads(kept.read_text())["rows"][ROW]
    assert figures["requests/s"] > 10
    assert 0 < figures["p50 ms"] <= figures["p99 ms"]
    assert figures["hub us/request"] > 0
    assert figures["agent us/request"] > 0
    compared = next(line for line in done.stdout.splitlines() if "requests/s" in line and "direct" not in line)
    assert " 1.00 " in compared, "the figure before this run is not shown beside it"
