"""Clusters for the tests that need them, and the promise that no test leaves anything behind.

Unit tests pay for none of it: the harness is imported by the first fixture that needs it.
"""

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from tests.harness import Cluster

_LIGHT_TIMEOUT_S = 180
_FULL_TIMEOUT_S = 300
_BEFORE = pytest.StashKey[Any]()


# --- clusters ---------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def light_cluster() -> AsyncIterator["Cluster"]:
    """The session's light cluster `light`, started by the first test that asks."""
    from tests import harness

    async with harness.light("light", controller_manager=True) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def full_cluster() -> AsyncIterator["Cluster"]:
    """The session's full cluster `full`: real pods, in a network of its own."""
    from tests import harness

    async with harness.full("full") as cluster:
        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by fixture, give clusters time to start, skip full ones where they cannot be."""
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
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_FULL_TIMEOUT_S if full else _LIGHT_TIMEOUT_S))
        if full:
            if not asked:
                asked, obstacle = True, _full_obstacle()
            if obstacle:
                item.add_marker(pytest.mark.skip(reason=obstacle))


def _full_obstacle() -> str | None:
    from tests.harness import full_obstacle

    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        return None  # a missing tool fails the tests there, it never skips them
    return full_obstacle()


# --- nothing is left behind ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _tasks_end(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_no_task_left")


@pytest_asyncio.fixture
async def _no_task_left() -> AsyncIterator[None]:
    yield
    for _ in range(3):  # let callbacks of just finished tasks run
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"tasks left behind: {left}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if sys.platform == "linux" and not _shares_processes(item):
        from tests.harness.leaks import snapshot

        item.stash[_BEFORE] = snapshot()
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    yield
    if _BEFORE in item.stash:
        from tests.harness.leaks import leaked

        found = leaked(item.stash[_BEFORE])
        assert not found, f"left behind: {found}"


def _shares_processes(item: pytest.Item) -> bool:
    """Session-wide clusters and hubs hold descriptors and children beyond the test that started them."""
    return any(item.get_closest_marker(name) is not None for name in ("light", "full"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and "tests.harness.runs" in sys.modules:
        from tests.harness.leaks import recent_logs

        report.sections.extend(recent_logs(call.start))
    return report  # type: ignore[return-value]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Last: every fixture is closed, so nothing of the run may be left."""
    if "tests.harness.runs" not in sys.modules:
        return
    from tests.harness.leaks import end_run

    problems = end_run(failed=session.testsfailed > 0)
    if problems:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        sys.stderr.write("\nERROR: the test run left behind:\n" + "\n".join(f"  {each}" for each in problems) + "\n")
