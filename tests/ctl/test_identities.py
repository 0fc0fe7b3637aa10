"""Whose a token is: the hub's own word, and nobody's guess where it says nothing."""

import pytest
from aiohttp import web

from ctl import errors, identities, logins
from tests.ctl.fakehub import ADMIN, FakeHub


async def test_the_hub_says_whose_a_token_is_or_that_it_has_ended(hub: str, fake: FakeHub) -> None:
    assert (await identities.whoami(logins.Login(hub=hub, token=ADMIN)))["admin"] is True
    assert await identities.user(logins.Login(hub=hub, token=ADMIN)) == "admin"
    assert await identities.user(logins.Login(hub=hub, token="riata_other00000_" + "b" * 64)) is None


async def test_a_hub_that_does_not_say_so_has_not_said_that_it_has_ended(hub: str, fake: FakeHub) -> None:
    login = logins.Login(hub=hub, token=ADMIN)
    for answer in (web.json_response([]), web.json_response({}), web.Response(status=401, text="a proxy's")):
        fake.answer = answer
        with pytest.raises(errors.CommandError) as caught:
            await identities.user(login)
        assert caught.value.exit_code == errors.Exit.FAILURE


async def test_a_token_that_no_header_can_carry_is_not_sent(hub: str, fake: FakeHub) -> None:
    with pytest.raises(errors.UsageError):
        await identities.user(logins.Login(hub=hub, token=ADMIN + "\n"))
    assert fake.calls == []
