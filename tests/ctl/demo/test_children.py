"""Processes of the demo: ready files, logs, their end with ours."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from ctl import errors
from ctl.demo import children

READY = "import json, sys, time; open(sys.argv[1], 'w').write(json.dumps({'pid': 1})); time.sleep(60)"


async def test_a_child_says_when_it_is_ready_and_ends_with_the_block(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", READY, str(tmp_path / "ready")]
    async with children.child("x", command, log=tmp_path / "log") as running:
        assert await running.ready(tmp_path / "ready") == {"pid": 1}
        assert running.returncode is None
    assert running.returncode == -signal.SIGTERM


async def test_a_child_that_ends_before_it_is_ready_shows_its_log(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no \\x1b luck')"]
    async with children.child("x", command, log=tmp_path / "log") as running:
        with pytest.raises(errors.CommandError) as caught:
            await running.ready(tmp_path / "ready")
    assert caught.value.what == "x ended with 1"
    assert caught.value.means.endswith("no � luck")


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STOP_S", 0.2)
    command = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN);" + READY, str(tmp_path / "r")]
    async with children.child("x", command, log=tmp_path / "log") as running:
        await running.ready(tmp_path / "r")
    assert running.returncode == -signal.SIGKILL


async def test_completed(tmp_path: pathlib.Path) -> None:
    await children.completed("x", [sys.executable, "-c", ""], log=tmp_path / "log")
    with pytest.raises(errors.CommandError, match="ended with 3"):
        await children.completed("x", [sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "log")


async def test_settings_of_riata_do_not_reach_a_child(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIATA_HUB_DATA", "/elsewhere")
    code = "import os; raise SystemExit('RIATA_HUB_DATA' in os.environ)"
    await children.completed("x", [sys.executable, "-c", code], log=tmp_path / "log")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: pathlib.Path) -> None:
    code = f"""
import asyncio, os, pathlib, signal, sys
from ctl.demo import children
async def main():
    command = [sys.executable, "-c", {READY!r}, sys.argv[1] + "/ready"]
    async with children.child("x", command, log=pathlib.Path(sys.argv[1], "log")) as running:
        await running.ready(pathlib.Path(sys.argv[1], "ready"))
        print(running.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    root = str(pathlib.Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=root, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    for _ in range(1000):
        if not _runs(int(done.stdout)):
            return
    raise AssertionError("the child survived")


def _runs(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_programs_are_found_without_an_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "ctl").mkdir()
    (tmp_path / "ctl" / "__main__.py").write_text("raise SystemExit('a stranger')")
    command = children.program("no-such-script", "ctl")
    done = subprocess.run(
        [*command, "version", "--client"], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[0].split()) == (0, ["PART", "VERSION"]), done.stderr
    assert os.path.isabs(command[0])
