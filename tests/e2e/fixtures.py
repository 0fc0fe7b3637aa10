"""Fixtures of the end-to-end tests: one line (hub, clusters, agents) for the whole run, a namespace for each test.

`RIATA_E2E_DIRECT_URL`, `…_CA` and `…_TOKEN_FILE` name an API server that the Kubernetes-facing tests then talk to with
nothing between: when a test fails there too, its expectation is wrong and not the line.
"""

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import harness
from tests.e2e.entry import Entry, kubeconfig_text
from tests.e2e.kubectl import Kubectl
from tests.e2e.line import FULL, LIGHT, Line, running_line
from tests.e2e.pods import NAMESPACE, ensure_pods
from tests.harness import tools

_numbers = itertools.count(1)


def is_direct() -> bool:
    """Whether this run leaves riata out."""
    return "RIATA_E2E_DIRECT_URL" in os.environ


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line | None]:
    """The line; None when this run leaves riata out."""
    if is_direct():
        yield None
        return
    wanted = any(item.get_closest_marker("full") for item in request.session.items)
    directory = tmp_path_factory.mktemp("entries")
    async with running_line(directory, with_full=wanted and not harness.full_obstacle()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def nothing_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After every test on the line: hub and agents have no more streams than before it."""
    if "line" not in request.fixturenames or is_direct():
        yield
        return
    line: Line = request.getfixturevalue("line")
    base = await line.streams()
    yield
    await line.quiet(base)


@pytest_asyncio.fixture(loop_scope="session")
async def hub_line(line: Line | None) -> Line:
    """The line, for tests that make no sense without a hub."""
    if line is None:
        pytest.skip("this run leaves riata out")
    return line


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_light(line: Line | None, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The shared test user's way into the light cluster."""
    return line.entry(LIGHT) if line else direct_entry(tmp_path_factory.mktemp("direct"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_full(line: Line | None, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The shared test user's way into the full cluster, where the pods of `tests.e2e.pods` run."""
    if line is not None and line.full is None:
        pytest.skip(harness.full_obstacle() or "no test of this run asked for a full cluster")
    entry = line.entry(FULL) if line else direct_entry(tmp_path_factory.mktemp("direct"))
    await ensure_pods(entry)
    return entry


@pytest_asyncio.fixture(loop_scope="session")
async def light(whole_light: Entry) -> Entry:
    """The light cluster, kubectl bound to a namespace of this test alone."""
    return await fresh(whole_light)


@pytest_asyncio.fixture(loop_scope="session")
async def full(whole_full: Entry) -> Entry:
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
