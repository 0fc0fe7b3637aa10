import asyncio
import importlib.util
import subprocess
import sys

import pytest

from proto.aio import loop

loop.factory().close()  # libuv's first loop opens a pipe for signals that lasts as long as the process


def test_a_coroutine_runs_to_its_result() -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__module__

    expected = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    assert loop.run(answer()).startswith(expected)


def test_it_works_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert loop.run(module()).startswith("asyncio")


def test_settling_changes_only_this_process_and_keeps_the_collector_on() -> None:
    code = (
        "import gc; from proto.aio import loop; loop.settle(); "
        "print(gc.isenabled(), gc.get_threshold()[0] > 700, gc.get_freeze_count() > 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "True", "True"]
