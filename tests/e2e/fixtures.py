"""Fixtures of the end-to-end tests: one line (hub, clusters, agents) for the whole run, a namespace for each test.

`RIATA_E2E_DIRECT_URL`, `…_CA` and `…_TOKEN_FILE` name an API server that the Kubernetes-facing tests then talk to with
nothing between: when a test fails there too, its expectation is wrong and not the line.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests import harness
from tests.e2e.entry import Entry, kubeconfig_text
from tests.e2e.kubectl import Kubectl
from tests.e2e.line import Line, running_line
from tests.e2e.pods import NAMESPACE, ensure_pods
from tests.harness import tools

_START_S = 120
_numbers = itertools.count(1)


def is_direct() -> bool:
    """Whether this run leaves riata out."""
    return "RIATA_E2E_DIRECT_URL" in os.environ


@pytest.fixture(scope="session")
def clusters(request: pytest.FixtureRequest) -> tuple[harness.Cluster, harness.Cluster | None]:
    """The run's clusters; the full one only if a test that will run wants it. Not async: it may ask for async ones."""
    wanted = any(
        item.get_closest_marker("full") and not item.get_closest_marker("skip") for item in request.session.items
    )
    return request.getfixturevalue("light_cluster"), request.getfixturevalue("full_cluster") if wanted else None


@pytest.fixture(scope="session")
def line_or_none(request: pytest.FixtureRequest) -> Line | None:
    """The line; None when this run leaves riata out."""
    return None if is_direct() else request.getfixturevalue("line")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def line(
    clusters: tuple[harness.Cluster, harness.Cluster | None], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Line]:
    """Hub and agents, for all modules of the run."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_START_S):
            running = await stack.enter_async_context(running_line(tmp_path_factory.mktemp("entries"), *clusters))
            await running.rest()
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def quiet(line_or_none: Line | None) -> AsyncIterator[Line | None]:
    """The line, for one test, after which hub and agents hold no more streams, tasks and descriptors than before."""
    if line_or_none is None:
        yield None
        return
    base = await line_or_none.base()
    yield line_or_none
    await line_or_none.released(base)


@pytest_asyncio.fixture(loop_scope="session")
async def hub_line(quiet: Line | None) -> Line:
    """The line, for tests that make no sense without a hub."""
    if quiet is None:
        pytest.skip("this run leaves riata out")
    return quiet


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_light(line_or_none: Line | None, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The shared test user's way into the light cluster."""
    if line_or_none is None:
        return direct_entry(tmp_path_factory.mktemp("direct"))
    return line_or_none.entry(line_or_none.light.name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_full(line_or_none: Line | None, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The shared test user's way into the full cluster, where the pods of `tests.e2e.pods` run."""
    if line_or_none is None:
        entry = direct_entry(tmp_path_factory.mktemp("direct"))
    else:
        assert line_or_none.full is not None, "a test without the mark `full` asked for the full cluster"
        entry = line_or_none.entry(line_or_none.full.name)
    await ensure_pods(entry)
    return entry


@pytest_asyncio.fixture(loop_scope="session")
async def light(quiet: Line | None, whole_light: Entry) -> Entry:
    """The light cluster, kubectl bound to a namespace of this test alone."""
    return await fresh(whole_light)


@pytest_asyncio.fixture(loop_scope="session")
async def full(quiet: Line | None, whole_full: Entry) -> Entry:
    """The full cluster, kubectl bound to the namespace of the shared pods."""
    return whole_full.inside(NAMESPACE)


async def fresh(entry: Entry) -> Entry:
    """`entry` bound to a new namespace; the clusters are thrown away after the run, so it stays."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    await entry.kubectl("create", "namespace", name)
    return entry.inside(name)


def direct_entry(directory: Path) -> Entry:
    """The API server that the environment names."""
    url, ca_file = os.environ["RIATA_E2E_DIRECT_URL"], Path(os.environ["RIATA_E2E_DIRECT_CA"])
    token = Path(os.environ["RIATA_E2E_DIRECT_TOKEN_FILE"]).read_text().strip()
    kubeconfig = directory / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(kubeconfig_text(url, ca_file, token))
    return Entry(url, ca_file, token, Kubectl(Path(tools.kube("kubectl")), kubeconfig, directory))
