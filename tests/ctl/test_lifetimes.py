"""A token that ends sooner than was asked for is told, with the reason, and is shown whatever becomes of that."""

import pytest

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import EXPIRES, FakeHub

SECRET = "riata_t000000001_" + "0" * 64


@pytest.mark.parametrize(
    ("is_admins", "ends", "why"),
    [
        (False, EXPIRES, "none that you make outlives the one you are logged in with; an administrator makes one"),
        (False, "2027-11-25T04:00:00Z", "the hub lets none live longer (token_lifetime_max_s)"),
        (True, EXPIRES, "the hub lets none live longer (token_lifetime_max_s)"),
        (False, None, "the hub lets none live longer (token_lifetime_max_s)"),
    ],
)
async def test_a_life_that_the_hub_shortened_is_told_with_the_reason(
    riata: Riata, hub: str, fake: FakeHub, is_admins: bool, ends: str | None, why: str
) -> None:
    fake.is_admins, fake.ends = is_admins, ends
    result = await riata("tokens", "create", "ci", "--expires-in", "30d")
    assert (result.code, result.out) == (0, SECRET + "\n")
    assert f"token t000000001 ends sooner than you asked for: {why}" in result.err


async def test_a_token_that_was_made_is_shown_whatever_the_reason_is(riata: Riata, hub: str, fake: FakeHub) -> None:
    fake.busy.append("/v1/whoami")
    result = await riata("tokens", "create", "ci", "--expires-in", "30d")
    assert (result.code, result.out) == (0, SECRET + "\n")
    assert "sooner than you asked for: the hub shortened its life" in result.err
    assert "sooner" not in (await riata("tokens", "create", "ci")).err
