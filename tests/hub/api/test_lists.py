"""Long lists let others have their turn, and are whole and in order."""

from __future__ import annotations

import pytest

from hub import slices
from hub.api import grants, tokens
from hub.api.routes import Call, Handler
from hub.auth.bearer import Bearer
from tests.hub.api.hubworld import HubWorld
from tests.hub.turns import turns_of


@pytest.mark.parametrize(("handler", "path"), [(tokens.list_tokens, "/v1/tokens"), (grants.list_grants, "/v1/grants")])
async def test_a_long_list_is_made_in_slices(
    world: HubWorld, monkeypatch: pytest.MonkeyPatch, handler: Handler, path: str
) -> None:
    for number in range(10):
        await world.mint(f"user{number}")
        await world.call("POST", "/v1/grants", {"name": f"g{number}", "user": f"user{number}"})
    whole = (await world.call("GET", path)).json
    assert len(whole["items"]) == 11
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    caller = world.services.authenticator.authenticate(Bearer(world.admin.encode()))
    turns, _ = await turns_of(handler(Call(world.services, caller, {}, None)))
    assert turns >= 10  # one for each, as others see it
    assert (await world.call("GET", path)).json == whole
