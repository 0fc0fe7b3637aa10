"""`riata agents`."""

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import CREATED, FakeHub

ONE = {
    "id": "k000000001", "cluster": "a", "role": "cluster", "node": "", "credential": "key", "connected": True,
    "version": "0.1.0", "address": "192.0.2.7:1", "connectedSince": CREATED, "lastSeen": CREATED, "rttSeconds": 0.0123,
    "keySince": CREATED, "revokedAt": None,
}  # fmt: skip


async def test_list_revoke_and_rotate(riata: Riata, hub: str, fake: FakeHub) -> None:
    fake.agents["k000000001"] = ONE
    fake.agents["k000000002"] = {"id": "k000000002", "cluster": "b", "role": "cluster", "revokedAt": CREATED}
    rows = [line.split() for line in (await riata("agents", "list")).out.splitlines()]
    assert rows[0][:5] == ["ID", "CLUSTER", "ROLE", "NODE", "STATE"]
    assert rows[1] == [
        "k000000001", "a", "cluster", "-", "connected", "0.1.0", "192.0.2.7:1", CREATED, CREATED, "12.3ms", CREATED,
        "-", "-",
    ]  # fmt: skip
    assert rows[2][4] == "revoked"
    assert (await riata("agents", "list", "--cluster", "b", "-o", "name")).out == "k000000002\n"
    assert (await riata("agents", "rotate-key", "k000000001")).code == 0
    assert fake.calls[-1][:2] == ("POST", "/v1/agents/k000000001/rotate-key")
    assert (await riata("agents", "revoke", "k000000001")).err == "agent k000000001 revoked\n"
    assert (await riata("agents", "revoke", "k000000001")).code == 4


async def test_list_shows_what_is_known_of_the_nodes(riata: Riata, hub: str, fake: FakeHub) -> None:
    facts, registered = {"roles": ["control-plane"]}, {"roles": ["worker", "gpu"], "kubelet": "v1.37.2"}
    node = {"cluster": "a", "role": "node", "connected": True, "nodeFacts": facts}
    fake.agents["a:n1"] = {**node, "id": "a:n1", "node": "n1", "registeredNode": None}
    fake.agents["a:n2"] = {**node, "id": "a:n2", "node": "n2", "registeredNode": registered}
    rows = [line.split() for line in (await riata("agents", "list")).out.splitlines()]
    assert [row[-2:] for row in rows] == [
        ["NODE-ROLES", "KUBELET"], ["control-plane", "-"], ["worker,gpu", "v1.37.2"],
    ]  # fmt: skip
