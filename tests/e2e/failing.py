"""Tests that fail on purpose while their cluster runs. Not collected by its name: test_harness runs it by its path."""

import asyncio
import sys

import pytest

from tests import harness
from tests.e2e.survivors import announce, occupy

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_on_light(light_cluster: harness.Cluster) -> None:
    await _fail(light_cluster)


async def test_on_full(full_cluster: harness.Cluster) -> None:
    await _fail(full_cluster)


async def _fail(cluster: harness.Cluster) -> None:
    await occupy(cluster)
    announce()
    await asyncio.to_thread(sys.stdin.read)  # until it was looked at
    pytest.fail("on purpose")
