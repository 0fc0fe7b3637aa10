"""`riata agent-tokens`."""

import json

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import FakeHub

SECRET = "riataagent_t000000001_" + "0" * 64


async def test_create_list_revoke(riata: Riata, hub: str, fake: FakeHub) -> None:
    assert (await riata("agent-tokens", "create", "a")).out == SECRET + "\n"
    assert fake.calls[-1] == ("POST", "/v1/clusters/a/agent-tokens", {"name": "agent"})
    assert (await riata("agent-tokens", "list", "a", "-o", "name")).out == "t000000001\n"
    assert (await riata("agent-tokens", "revoke", "a", "t000000001")).code == 0
    assert (await riata("agent-tokens", "list", "a", "-o", "json")).out == '{\n  "items": []\n}\n'


async def test_create_as_json_has_the_secret_and_as_a_name_has_not(riata: Riata, hub: str, fake: FakeHub) -> None:
    made = await riata("agent-tokens", "create", "a", "-o", "json", "--expires-in", "1d")
    assert json.loads(made.out)["token"] == SECRET
    assert fake.calls[-1][2] == {"name": "agent", "expiresInSeconds": 86400}
    assert (await riata("agent-tokens", "create", "a", "-o", "name")).out == "t000000002\n"
