"""Clusters for the tests that need them, and the promises that no test leaves anything behind and CI skips nothing.

Unit tests pay for none of it: the harness is imported by the first fixture that needs it.
"""

import asyncio
import inspect
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import pytest_asyncio

from tests import alone

if TYPE_CHECKING:
    from tests.harness import Cluster

_LONG = ("tests/e2e/", "tests/faults/", "tests/deploy/")
_LIGHT_TIMEOUT_S = 180
_FULL_TIMEOUT_S = 300
_LIGHT_START_S = 120
_FULL_START_S = 240


# How long an example takes says more of the machine than of the code: each test has a time limit as it is. In CI the
# examples are the same each time (hypothesis' profile `ci`); everywhere else they are new ones.
hypothesis.settings.register_profile(
    "riata",
    hypothesis.settings.get_profile("ci" if os.environ.get("CI") else "default"),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("riata")


# --- clusters ---------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def light_cluster() -> AsyncIterator["Cluster"]:
    """The session's light cluster `light`, started by the first test that asks."""
    from tests import harness

    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_LIGHT_START_S):
            cluster = await stack.enter_async_context(harness.light("light", controller_manager=True))
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def full_cluster() -> AsyncIterator["Cluster"]:
    """The session's full cluster `full`: real pods, in a network of its own."""
    from tests import harness

    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_FULL_START_S):
            cluster = await stack.enter_async_context(harness.full("full"))
        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by fixture, give each test on a cluster its time, skip full ones where they cannot be; long ones first."""
    # Files are handed out to the processes of `make test` in this order: short ones fill what is left at the end.
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))
    obstacle: str | None = None
    asked = False
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "full_cluster" in fixtures:
            item.add_marker("full")
        if "light_cluster" in fixtures:
            item.add_marker("light")
        full = item.get_closest_marker("full") is not None
        if not full and item.get_closest_marker("light") is None:
            continue
        _time(item, _FULL_TIMEOUT_S if full else _LIGHT_TIMEOUT_S)
        if full:
            if not asked:
                asked, obstacle = True, _full_obstacle()
            if obstacle:
                item.add_marker(pytest.mark.skip(reason=obstacle))


def _time(item: pytest.Item, otherwise_s: int) -> None:
    """Limit the test alone: clusters, hub and agents have limits of their own, and the first test must not pay them."""
    given = item.get_closest_marker("timeout")
    seconds = given.args[0] if given else otherwise_s
    item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)


def _full_obstacle() -> str | None:
    from tests.harness import full_obstacle

    return full_obstacle()


# --- tests that measure run by themselves --------------------------------------------------------------------------

_PLACE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a new process of pytest-xdist where the run's locks are."""
    stash = node.config.stash
    if _PLACE not in stash:
        stash[_PLACE] = tempfile.TemporaryDirectory(prefix="riata-alone-")
    node.workerinput["alone"] = stash[_PLACE].name


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Before the test's time begins to count."""
    told: dict[str, str] | None = getattr(item.config, "workerinput", None)
    if told is None:  # the only process of its run
        return (yield)
    with alone.turn(Path(told["alone"]), alone=item.get_closest_marker(alone.MARK) is not None):
        return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    """All processes have ended."""
    if _PLACE in config.stash:
        config.stash[_PLACE].cleanup()


# --- nothing is left behind ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No socket, pipe or child process more than before. Set up behind the session's fixtures, which keep theirs."""
    if _loop_scope(request) == "session":
        request.getfixturevalue("_session_loop")
    if sys.platform != "linux":
        yield
        return
    from tests.harness.leaks import leaked, snapshot

    before = snapshot()
    yield
    found = leaked(before)
    assert not found, f"left behind: {found}"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A program's start within a test gives the log to a stream that is closed with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(autouse=True)
def _tasks_end(request: pytest.FixtureRequest, _nothing_left: None) -> None:
    """Look for tasks in the loop in which the test runs."""
    scope = _loop_scope(request)
    if scope is not None:
        request.getfixturevalue({"function": "_no_task_left", "session": "_no_task_left_in_the_session"}[scope])


def _loop_scope(request: pytest.FixtureRequest) -> str | None:
    """Whose loop the test runs in; None when it is not async."""
    if not inspect.iscoroutinefunction(getattr(request, "function", None)):
        return None
    mark = request.node.get_closest_marker("asyncio")
    return str(mark.kwargs.get("loop_scope", "function")) if mark else "function"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _session_loop() -> None:
    """Makes the session's loop, whose own sockets no test leaves behind."""


@pytest_asyncio.fixture
async def _no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await _only(before)


@pytest_asyncio.fixture(loop_scope="session")
async def _no_task_left_in_the_session() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    if sys.platform != "linux":
        yield
        await _only(before)
        return
    from tests.harness import leaks

    opened = leaks.snapshot()
    yield
    await _only(before)
    await leaks.closed(opened)


async def _only(before: set["asyncio.Task[object]"]) -> None:
    for _ in range(3):  # let callbacks of just finished tasks run
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, f"tasks left behind: {left}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and "tests.harness.runs" in sys.modules:
        from tests.harness.leaks import recent_logs

        report.sections.extend(recent_logs(call.start))
    return report  # type: ignore[return-value]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Last: every fixture is closed, so nothing of the run may be left; and where CI runs, nothing was skipped."""
    left = session.config.stash[_LEFT]
    if "tests.harness.runs" in sys.modules:
        from tests.harness.leaks import end_run

        left += end_run(failed=session.testsfailed > 0)
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:  # a process of pytest-xdist: the one that started it knows all skips, and says all
        told["left"] = left
        return
    problems = [f"CI skips nothing, but: {skipped}" for skipped in session.config.stash[_SKIPPED]] if _is_ci() else []
    left[:] = problems + [f"the test run left behind: {each}" for each in left]
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What no single test is to blame for; near the end, where a log that keeps its tail alone still has it."""
    for problem in config.stash[_LEFT]:
        terminalreporter.write_line(f"ERROR: {problem}", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """What a process of pytest-xdist found left behind when it ended; one that died has told nothing."""
    node.config.stash[_LEFT].extend(getattr(node, "workeroutput", {}).get("left", []))


# --- nothing is skipped in CI ---------------------------------------------------------------------------------------

_SKIPPED = pytest.StashKey[list[str]]()
_LEFT = pytest.StashKey[list[str]]()


def _is_ci() -> bool:
    return os.environ.get("CI") == "true"


def pytest_report_header() -> str:
    """Whether hub, agents and `riata` are compiled in this run."""
    return f"programs: {os.environ.get('RIATA_PROGRAMS') or 'interpreted, of this environment'}"


def pytest_configure(config: pytest.Config) -> None:
    """Start the lists of what is skipped and of what is left behind."""
    skipped: list[str] = []
    config.stash[_SKIPPED] = skipped
    config.stash[_LEFT] = []
    config.pluginmanager.register(_Skips(skipped))


class _Skips:
    """Writes down every skipped test, and every module or class that skipped itself while it was collected."""

    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(_reason(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(_reason(report))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return f"{report.nodeid}: {where}"
