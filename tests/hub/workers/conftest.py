"""Two workers joined by a pair of sockets, for the tests of either side of a hop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.hub.workers.tworig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.tasks.aclose()
    await made.host.aclose()
