"""`riata grants`."""

import pytest

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import FakeHub


async def test_create_list_show_delete(riata: Riata, hub: str, fake: FakeHub) -> None:
    await riata("grants", "create", "g1", "--user", "ann", "--cluster", "a", "--role", "admin")
    assert fake.calls[-1][2] == {"name": "g1", "role": "admin", "cluster": "a", "user": "ann"}
    await riata(
        *("grants", "create", "g2", "--group", "dev", "--cluster", "*"),
        *("--impersonate-user", "bob", "--impersonate-user", "eve", "--impersonate-group", "*"),
    )
    assert (await riata("grants", "list")).out == (
        "NAME   WHO         CLUSTER   ROLE    IMPERSONATES\n"
        "g1     user:ann    a         admin   -\n"
        "g2     group:dev   *         use     user:bob,user:eve,group:*\n"
    )
    assert (await riata("grants", "show", "g1", "-o", "name")).out == "g1\n"
    assert (await riata("grants", "delete", "g1", "-y")).code == 0
    assert list(fake.grants) == ["g2"]


@pytest.mark.parametrize(
    "arguments",
    [("--cluster", "a"), ("--user", "u", "--group", "g", "--cluster", "a"), ("--user", "u"), ("--role", "owner")],
)
async def test_an_incomplete_grant_is_a_usage_error(
    riata: Riata, hub: str, fake: FakeHub, arguments: tuple[str, ...]
) -> None:
    assert (await riata("grants", "create", "g", *arguments)).code == 2
    assert fake.calls == []
