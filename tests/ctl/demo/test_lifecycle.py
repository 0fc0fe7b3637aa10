"""The life of a demo, with a source that makes nothing."""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import tempfile
from collections.abc import AsyncIterator

import pytest

from ctl import errors
from ctl.demo import handout, lifecycle, progress, records, running
from tests.ctl.demo.test_handout import demo_of
from tests.ctl.demo.test_records import dead


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Directories of these demos are the test's; a run under sudo hands nothing over."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)


class Source:
    """Enters, remembers its directory, and sends itself a signal when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, before: int = 0, after: int = 0) -> None:
        self.directory = pathlib.Path()
        self.is_left = False
        self._before = before

        async def kubeconfig(demo: running.Running) -> pathlib.Path:
            if after:
                asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), after)
            return demo.directory / "kubeconfig"

        monkeypatch.setattr(handout, "kubeconfig", kubeconfig)

    @contextlib.asynccontextmanager
    async def __call__(self, directory: pathlib.Path, steps: progress.Steps) -> AsyncIterator[running.Running]:
        self.directory = directory
        try:
            with steps.step("nothing"):
                if self._before:
                    os.kill(os.getpid(), self._before)
                    await asyncio.sleep(60)
            yield demo_of(directory)
        finally:
            await asyncio.sleep(0)
            self.is_left = True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_one_json_object_then_it_stays_until_a_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    source = Source(monkeypatch, after=number)
    await lifecycle.live(source, form="json", keep=False)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["kubeconfig"] == f"{source.directory}/kubeconfig"
    assert captured.err.splitlines()[-1] == "the demo has ended"
    assert source.is_left
    assert not source.directory.exists()


async def test_what_it_keeps_it_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source = Source(monkeypatch, after=signal.SIGTERM)
    await lifecycle.live(source, form="table", keep=True)
    assert capsys.readouterr().err.splitlines()[-1] == f"kept: {source.directory}"
    assert source.directory.exists()
    assert source.directory.stat().st_mode & 0o777 == 0o700
    assert records.read(source.directory) == records.own(keep=True)


async def test_what_a_killed_one_left_goes_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    left = tmp_path / f"{records.PREFIX}x"
    left.mkdir(mode=0o700)
    records.write(left, dead())
    await lifecycle.live(Source(monkeypatch, after=signal.SIGTERM), form="json", keep=False)
    assert not left.exists()
    assert capsys.readouterr().err.startswith(f"removed what a killed demo left: {left}\n")


async def test_a_signal_before_it_is_ready_ends_it_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(monkeypatch, before=signal.SIGINT)
    with pytest.raises(errors.CommandError) as caught:
        await lifecycle.live(source, form="table", keep=False)
    assert caught.value.exit_code == errors.Exit.INTERRUPTED
    assert source.is_left
    assert not source.directory.exists()
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


async def test_a_process_that_ends_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lifecycle, "_LOOK_S", 0.001)
    await lifecycle.live(Source(monkeypatch, after=signal.SIGTERM), form="json", keep=False)
    assert capsys.readouterr().err.count("alpha/agent has ended") == 1
