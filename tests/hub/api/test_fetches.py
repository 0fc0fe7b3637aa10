"""How often a join token may fetch its manifest."""

from __future__ import annotations

import pytest

from hub.api.fetches import BURST, FetchLimit
from hub.errors import TooManyRequests
from tests.hub.api.hubworld import HubWorld
from tests.hub.api.test_manifests import pinned
from tests.hub.store.conformance import SettableClock


async def test_fetching_has_a_pace_of_its_own_for_each_token(world: HubWorld) -> None:
    await pinned(world)
    await world.call("POST", "/v1/clusters", {"name": "a"})
    first, second = [(await world.call("POST", "/v1/clusters/a/join-tokens", {})).json["token"] for _ in range(2)]
    codes = [(await world.call("GET", "/v1/manifest", token=first)).status for _ in range(12)]
    assert codes == [200] * 10 + [429] * 2
    assert (await world.call("GET", "/v1/manifest", token=second)).status == 200
    world.clock.now += 7
    assert (await world.call("GET", "/v1/manifest", token=first)).status == 200


def test_tokens_that_are_gone_are_forgotten() -> None:
    limit = FetchLimit(SettableClock())
    for _ in range(BURST):
        limit.take("gone")
    with pytest.raises(TooManyRequests):
        limit.take("gone")
    limit.keep({"other"})
    limit.take("gone")
