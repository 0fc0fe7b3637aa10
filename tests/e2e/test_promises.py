"""The promises of tests/conftest.py can be broken: each check fails when a test does what it forbids."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.entry import Entry
from tests.e2e.line import Line, settled
from tests.harness import tools

LEAKING = """
import asyncio, socket, subprocess
import pytest

pytestmark = [pytest.mark.asyncio(loop_scope="{scope}"), *{marks}]
pending = []

async def test_task():
    pending.append(asyncio.get_running_loop().create_task(asyncio.sleep(60)))

async def test_socket():
    pending.append(socket.create_server(("127.0.0.1", 0)))

async def test_child():
    pending.append(subprocess.Popen(["sleep", "60"]))

@pytest.fixture(scope="session", autouse=True)
def end_it():
    yield
    for each in pending:
        if isinstance(each, subprocess.Popen):
            each.kill()
            each.wait()
        elif isinstance(each, socket.socket):
            each.close()
"""
CLEAN = """
import asyncio
import pytest

@pytest.mark.asyncio(loop_scope="session")
async def test_in_the_session():
    await (await asyncio.create_subprocess_exec("true")).wait()

async def test_alone():
    await asyncio.sleep(0)

@pytest.mark.xfail
def test_that_is_expected_to_fail():
    assert False
"""
SKIPPING = """
import pytest

def test_by_itself():
    pytest.skip("no such machine")

@pytest.mark.skip(reason="no such compiler")
def test_by_a_mark(): ...
"""
SKIPPED_WHOLE = """
import pytest
pytest.skip("no such system", allow_module_level=True)
"""


LEFT_AT_THE_END = """
import subprocess, sys
from tests.harness.runs import Run

Run.current()
started = subprocess.Popen(["sleep", "20"])  # before any test: none is to blame

def test_nothing(): ...
"""
MEASURING = """
import pathlib, time
import pytest

PLACE = pathlib.Path(__file__).parent

@pytest.mark.parametrize("number", range(4))
{mark}def test_it(number):
    began = time.monotonic()
    time.sleep(0.05)
    (PLACE / f"{name}-{{number}}").write_text(f"{{began}} {{time.monotonic()}}")
"""
WAYS = [pytest.param([], id="alone"), pytest.param(["-n", "1", "--dist", "loadfile"], id="in processes")]
"""How pytest runs: `make test` hands the files out to processes."""


def ran(directory: Path, text: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest with our conftest on one module of this text."""
    (directory / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-q", *options]
    command += ["-c", str(tools.REPOSITORY / "pyproject.toml"), "--rootdir", str(directory), str(directory)]
    surroundings = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        command,
        cwd=tools.REPOSITORY,
        env={**surroundings, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("scope", "marks"), [("function", "[]"), ("session", "[pytest.mark.light]")])
def test_a_test_that_leaves_something_fails(tmp_path: Path, scope: str, marks: str) -> None:
    done = ran(tmp_path, LEAKING.format(scope=scope, marks=marks))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "3 passed, 3 errors" in done.stdout, done.stdout
    for found in ("tasks left behind: [<Task", "left behind: ['descriptor", "left behind: ['child process"):
        assert found in done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_a_test_that_leaves_nothing_passes(tmp_path: Path, way: list[str]) -> None:
    done = ran(tmp_path, CLEAN, *way, CI="true")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_leaves_a_process_fails(tmp_path: Path, way: list[str]) -> None:
    """One that the run's mark finds, though no test is to blame for it."""
    done = ran(tmp_path, LEFT_AT_THE_END, *way)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "ERROR: the test run left behind: process " in done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_ci_fails_when_something_was_skipped(tmp_path: Path, way: list[str]) -> None:
    done = ran(tmp_path, SKIPPING, *way, CI="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    for name, reason in (("test_by_itself", "no such machine"), ("test_by_a_mark", "no such compiler")):
        assert done.stdout.count(f"CI skips nothing, but: test_it.py::{name}: Skipped: {reason}") == 1
    assert ran(tmp_path, SKIPPING).returncode == 0


@pytest.mark.parametrize("way", WAYS)
def test_ci_fails_when_a_module_skipped_itself(tmp_path: Path, way: list[str]) -> None:
    done = ran(tmp_path, SKIPPED_WHOLE, *way, CI="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert done.stdout.count("CI skips nothing, but: test_it.py: Skipped: no such system") == 1


@pytest.mark.parametrize("kind", ["streams", "tasks", "descriptors"])
async def test_hub_and_agents_may_hold_no_more_than_before(kind: str) -> None:
    held = {"hub streams": 0.0, "hub tasks": 9.0, "hub descriptors": 20.0}

    async def now() -> dict[str, float]:
        return {**held, f"hub {kind}": held[f"hub {kind}"] + 1}

    await settled(now, await now(), 0.0)
    with pytest.raises(AssertionError, match=f"hub {kind}"):
        await settled(now, held, 0.0)


@pytest.mark.light
@pytest.mark.asyncio(loop_scope="session")
async def test_what_is_still_open_is_seen_in_hub_and_agent(hub_line: Line, light: Entry) -> None:
    base = await hub_line.base()
    async with light.session() as session, session.get(light.at("/api/v1/namespaces?watch=1")) as watch:
        assert watch.status == 200
        # A TLS handshake that does not begin has a task of its own; a stream has none.
        _, silent = await asyncio.open_connection(*light.address)
        with pytest.raises(AssertionError, match="left behind") as seen:
            await hub_line.released(base, within=0.0)
    for held in ("hub streams", "hub tasks", "hub descriptors", "light streams"):
        assert f"'{held}'" in str(seen.value)
    silent.close()
    await hub_line.released(base)


def test_nothing_runs_beside_a_test_that_measures(tmp_path: Path) -> None:
    texts = {"one": "@pytest.mark.alone\n", "two": ""}
    for name, mark in texts.items():
        (tmp_path / f"test_{name}.py").write_text(MEASURING.format(mark=mark, name=name))
    done = ran(tmp_path, "", "-n", "2", "--dist", "loadfile")
    assert "8 passed" in done.stdout, done.stdout + done.stderr
    times = {
        name: [tuple(map(float, (tmp_path / f"{name}-{n}").read_text().split())) for n in range(4)] for name in texts
    }
    for began, ended in times["one"]:
        assert all(other_ended <= began or ended <= other_began for other_began, other_ended in times["two"])
