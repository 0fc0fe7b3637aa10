"""The world that the API's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hub.api.hubworld import HubWorld, hub_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as world:
        yield world
